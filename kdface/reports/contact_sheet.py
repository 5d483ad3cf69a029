"""Contact sheets: a titled grid of face images, to inspect a dataset or an augmentation."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdface.faces import Image
from kdface.reports.figures import style


def contact_sheet(
    images: Sequence[Sequence[Image | None]], row_titles: Sequence[str], column_titles: Sequence[str]
) -> Figure:
    """Draw a grid of images at their native resolution; small ones are scaled up by an integer factor.

    Args:
        images: rows of (height, width, 3) uint8 RGB images of any size; None leaves a cell empty.
        row_titles, column_titles: one title per row and column.
    """
    if len(images) != len(row_titles) or any(len(row) != len(column_titles) for row in images):
        raise ValueError(f"{[len(row) for row in images]} images a row do not fit the titles")
    cells = [(r, c, image) for r, row in enumerate(images) for c, image in enumerate(row) if image is not None]
    if not cells or any(image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 for *_, image in cells):
        raise ValueError("a contact sheet needs images of shape (height, width, 3) and type uint8")
    height, width = (max(image.shape[axis] for *_, image in cells) for axis in (0, 1))
    factor = max(1, round(112 / max(height, width)))
    height, width, gap, dpi = height * factor, width * factor, 4, 100
    with style():
        figure = Figure(dpi=dpi)
        FigureCanvasAgg(figure)
        rows = [figure.text(0, 0, textwrap.fill(title, 20), ha="right", va="center") for title in row_titles]
        heads = [
            figure.text(0, 0, textwrap.fill(title, max(4, width // 6)), ha="center", va="bottom")
            for title in column_titles
        ]
        left = 2 * gap + max(round(text.get_window_extent().width) for text in rows)
        top = 2 * gap + max(round(text.get_window_extent().height) for text in heads)
        wide = left + len(column_titles) * (width + gap)
        high = top + len(row_titles) * (height + gap)
        figure.set_size_inches(wide / dpi, high / dpi)
        for r, text in enumerate(rows):
            text.set_position(((left - gap) / wide, 1 - (top + r * (height + gap) + height / 2) / high))
        for c, text in enumerate(heads):
            text.set_position(((left + c * (width + gap) + width / 2) / wide, 1 - (top - gap) / high))
        for r, c, image in cells:
            large = image.repeat(factor, axis=0).repeat(factor, axis=1)
            x = left + c * (width + gap) + (width - large.shape[1]) // 2
            y = top + r * (height + gap) + (height - large.shape[0]) // 2
            figure.figimage(large, x, high - y - large.shape[0], origin="upper")
    return figure
