"""What figures show is tested here."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def figures_drawn_once() -> None:
    """Each figure is drawn."""
