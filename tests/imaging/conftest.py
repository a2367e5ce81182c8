"""Small images made on the spot."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def noise() -> Callable[..., np.ndarray]:
    """(height, width, 3) pixels of which no two neighbours are alike, so that a shift by one px shows."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)

    return make


@pytest.fixture(scope="session")
def smooth() -> np.ndarray:
    """A (600, 800, 3) picture that survives JPEG compression nearly unchanged."""
    y, x = np.mgrid[:600, :800]
    return np.stack([x * 255 / 800, y * 255 / 600, 128 + 60 * np.sin(x / 90)], -1).astype(np.uint8)


@pytest.fixture(scope="session")
def in_blocks() -> Callable[..., np.ndarray]:
    """Reads an area block by block with ``read(x, y, width, height)`` and puts it together."""

    def read(read_block: Callable[..., np.ndarray], *, x: int, y: int, width: int, height: int, block: int) -> Any:
        out = np.zeros((height, width, 3), np.uint8)
        for top in range(0, height, block):
            for left in range(0, width, block):
                h, w = min(block, height - top), min(block, width - left)
                out[top : top + h, left : left + w] = read_block(x=x + left, y=y + top, width=w, height=h)
        return out

    return read
