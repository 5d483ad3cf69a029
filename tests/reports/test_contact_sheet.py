"""A contact sheet shows each image pixel for pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kdface.reports.contact_sheet import contact_sheet
from kdface.reports.plotting import save

Array = NDArray[Any]


def _noise(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _saved(figure: Figure, path: Path) -> Array:
    save(figure, path)
    return np.asarray(cv2.imread(str(path)))[..., ::-1]  # RGB


def _find(sheet: Array, image: Array) -> list[tuple[int, int]]:
    """Where an image lies in a sheet, exactly: all (row, column)."""
    height, width = image.shape[:2]
    corner = (sheet == image[0, 0]).all(axis=2)
    return [
        (int(y), int(x)) for y, x in np.argwhere(corner) if np.array_equal(sheet[y : y + height, x : x + width], image)
    ]


def test_images_stand_in_their_cells_unchanged(tmp_path: Path) -> None:
    first, second, flat = _noise(112, 112, 0), _noise(112, 112, 1), _noise(48, 112, 2)
    sheet = _saved(
        contact_sheet([[first, second], [flat, None]], ["Ada", "Bo"], ["clean", "masked"]), tmp_path / "sheet.png"
    )
    places = [_find(sheet, image) for image in (first, second, flat)]
    assert [len(found) for found in places] == [1, 1, 1]
    (y0, x0), (y1, x1), (y2, x2) = (found[0] for found in places)
    assert y0 == y1 and x1 == x0 + 112 + 4  # a gap of 4 pixels
    assert x2 == x0 and y2 == y0 + 112 + 4 + (112 - 48) // 2  # centred in its cell
    assert (sheet[y1 + 116 : y1 + 228, x1 : x1 + 112] == 255).all()  # the empty cell
    assert (sheet[:y0].min(axis=2) < 100).any() and (sheet[y0:, :x0].min(axis=2) < 100).any()  # titles


def test_tiny_images_are_enlarged_by_a_whole_factor(tmp_path: Path) -> None:
    image = _noise(28, 28, 0)
    sheet = _saved(contact_sheet([[image]], ["a"], ["b"]), tmp_path / "sheet.png")
    assert len(_find(sheet, np.kron(image, np.ones((4, 4, 1), dtype=np.uint8)))) == 1  # 28 to 112


def test_long_titles_stay_on_the_sheet(tmp_path: Path) -> None:
    title = "a person with a very long name"
    figure = contact_sheet([[_noise(112, 112, 0)]], [title], [title])
    _saved(figure, tmp_path / "sheet.png")
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_short_rows_and_no_titles_are_as_empty_cells_and_titles(tmp_path: Path) -> None:
    images = [_noise(40, 40, k) for k in range(3)]
    save(contact_sheet([images[:2], images[2:]], ["a", "b"]), tmp_path / "short.png")
    save(contact_sheet([images[:2], [images[2], None]], ["a", "b"], ["", ""]), tmp_path / "full.png")
    assert (tmp_path / "short.png").read_bytes() == (tmp_path / "full.png").read_bytes()


def test_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(contact_sheet([[_noise(40, 40, 0)]], ["x"], ["y"]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_is_no_grid_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        contact_sheet([[np.zeros((8, 8, 3), dtype=np.float32)]], ["a"], ["b"])
