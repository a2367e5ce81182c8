"""Label maps for the tests: small random ones, awkward ones, and a large realistic one."""

from __future__ import annotations

import cv2
import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from conceptseg.geometry.components import Components


def component_map(components: Components) -> np.ndarray:
    """The component of every pixel."""
    return components.painted(np.arange(components.label.size))


@st.composite
def label_maps(draw, max_side: int = 14) -> np.ndarray:
    """Random maps of few labels, so that areas touch diagonally, nest and leave holes, in blocks of 1 to 3 px."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = draw(st.tuples(st.integers(1, max_side), st.integers(1, max_side)))
    labels = draw(st.sampled_from([[0, 1], [1, 2], [0, 1, 2], [0, 1, 2, 3, 4]]))
    if dtype == np.uint16:
        labels = [300 * label for label in labels]
    small = draw(hnp.arrays(dtype, shape, elements=st.sampled_from(labels)))
    block = draw(st.integers(1, 3))
    return np.ascontiguousarray(small.repeat(block, axis=0).repeat(block, axis=1))


def smooth_noise(height: int, width: int, *, labels: int, feature: float, seed: int) -> np.ndarray:
    """The largest of several smooth random fields; the first is the background."""
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), feature / 2) for _ in range(labels + 1)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def spiral(size: int) -> np.ndarray:
    """A one-pixel-wide path of label 1 that winds inwards, one pixel of label 2 between its turns."""
    labels = np.full((size, size), 2, np.uint8)
    y, x, dy, dx = 0, 0, 0, 1
    labels[0, 0] = 1
    for side in range(2 * size):
        moved = False
        while True:
            ny, nx = y + dy, x + dx
            by, bx = ny + dy, nx + dx
            inside = 0 <= ny < size and 0 <= nx < size
            if not inside or (0 <= by < size and 0 <= bx < size and labels[by, bx] == 1):
                break
            y, x, moved = ny, nx, True
            labels[y, x] = 1
        dy, dx = dx, -dy
        if not moved and side:
            break
    return labels


AWKWARD = {
    "one labelled pixel": np.array([[1]], np.uint8),
    "one unlabelled pixel": np.array([[0]], np.uint8),
    "one row": np.array([[1, 1, 2, 0, 0, 3, 3, 1]], np.uint8),
    "one column": np.array([[1], [0], [2], [2]], np.uint8),
    "checkerboard": np.indices((9, 7)).sum(axis=0).astype(np.uint8) % 2 + 1,
    "checkerboard with background": np.indices((8, 8)).sum(axis=0).astype(np.uint8) % 2,
    "all one label": np.full((5, 9), 7, np.uint8),
    "spiral": spiral(15),
    "diagonal contact of two areas": np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], np.uint8),
    "ring that touches itself diagonally": np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 1, 1], [1, 1, 0, 0]], np.uint8),
    "two holes that touch diagonally": np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], np.uint8),
    "hole that touches the shell diagonally": np.array([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]], np.uint8),
    "nested rings": np.maximum.reduce([np.abs(i - 6) for i in np.indices((13, 13))]).astype(np.uint8) % 3,
    "labels above 255": np.array([[256, 256, 65535], [256, 512, 65535]], np.uint16),
    "comb": np.where((np.indices((12, 40))[1] % 2 == 0) | (np.indices((12, 40))[0] == 0), 1, 2).astype(np.uint8),
}
