"""Contact sheets: a titled grid of face images, to inspect a dataset, an augmentation or a quality."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kdface.faces import Image
from kdface.reports.plotting import Values, style

_GAP, _DPI = 4, 100  # pixels between images, and per inch
_ACROSS = 10  # images per row of a sheet of qualities
_SHOWN = 60  # most images on it


@style()
def contact_sheet(
    images: Sequence[Sequence[Image | None]], row_titles: Sequence[str], column_titles: Sequence[str] = ()
) -> Figure:
    """Draw a grid of images at their native resolution; small ones are scaled up by an integer factor.

    Args:
        images: rows of (height, width, 3) uint8 RGB images of any size; None leaves a cell empty, as does the end of a
            short row.
        row_titles: one title per row.
        column_titles: titles of columns, if any.
    """
    cells = [(r, c, image) for r, row in enumerate(images) for c, image in enumerate(row) if image is not None]
    if any(image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 for *_, image in cells):
        raise ValueError("a contact sheet needs images of shape (height, width, 3) and type uint8")
    height, width = (max(image.shape[axis] for *_, image in cells) for axis in (0, 1))
    factor = max(1, round(112 / max(height, width)))
    height, width = height * factor, width * factor
    figure = Figure(dpi=_DPI)
    FigureCanvasAgg(figure)
    wrapped = [textwrap.fill(title, max(4, width // 6)) for title in column_titles]
    rows = [figure.text(0, 0, textwrap.fill(title, 20), ha="right", va="center") for title in row_titles]
    heads = [figure.text(0, 0, title, ha="center", va="bottom") for title in wrapped]
    left = 2 * _GAP + max(round(text.get_window_extent().width) for text in rows)
    top = 2 * _GAP + max((round(text.get_window_extent().height) for text in heads), default=0)
    wide = left + max(len(column_titles), *map(len, images)) * (width + _GAP)
    high = top + len(row_titles) * (height + _GAP)
    figure.set_size_inches(wide / _DPI, high / _DPI)
    for r, text in enumerate(rows):
        text.set_position(((left - _GAP) / wide, 1 - (top + r * (height + _GAP) + height / 2) / high))
    for c, text in enumerate(heads):
        text.set_position(((left + c * (width + _GAP) + width / 2) / wide, 1 - (top - _GAP) / high))
    for r, c, image in cells:
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        x = left + c * (width + _GAP) + (width - large.shape[1]) // 2
        y = top + r * (height + _GAP) + (height - large.shape[0]) // 2
        figure.figimage(large, x, high - y - large.shape[0], origin="upper")
    return figure


def quality_sheet(images: Sequence[Image], scores: Values, *, most: int = _SHOWN) -> Figure:
    """A contact sheet of images by increasing quality from the top left, ten per row.

    Args:
        images: (height, width, 3) uint8 RGB images.
        scores: (images,) finite qualities.
        most: largest number of images; if there are more, they are sampled evenly by rank, including the extremes.
    """
    order = spread(scores, most)
    rows, titles = [], []
    for start in range(0, len(order), _ACROSS):
        chosen = order[start : start + _ACROSS]
        rows.append([images[row] for row in chosen])
        first, last = (f"{float(scores[row]):.3g}" for row in (chosen[0], chosen[-1]))
        titles.append(first if first == last else f"{first} to {last}")
    return contact_sheet(rows, titles)


def spread(scores: Values, most: int = _SHOWN) -> NDArray[np.int64]:
    """The rows to show, ordered by score: all, or `most` evenly spaced ones."""
    order = np.argsort(scores, kind="stable")
    return order if len(order) <= most else order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]
