"""How much haematoxylin and eosin there is, as every pathologist sees it and ImageNet features hardly do."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

# Optical densities of red, green and blue per stain: haematoxylin, eosin and what is left of the third direction
# (Ruifrok and Johnston, 2001, "Quantification of histochemical staining by color deconvolution").
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


def stain_densities(images: Tensor, *, stride_px: int) -> Tensor:
    """Mean optical density of haematoxylin and eosin per token.

    Args:
        images: (n, height, width, 3) RGB, 0 to 255, sides multiples of the stride.
        stride_px: Pixels per token side.

    Returns:
        (n, grid_h, grid_w, 2) float32, >= 0.
    """
    stains = torch.nn.functional.normalize(torch.tensor(_STAINS, device=images.device), dim=1)
    if images.device.type == "cpu":
        means = torch.from_numpy(_mean_densities(images.numpy(), stride_px, _DENSITY_OF_LEVEL))
    else:
        densities = -torch.log((images.float() + 1) / 256)
        means = torch.nn.functional.avg_pool2d(densities.permute(0, 3, 1, 2), stride_px).permute(0, 2, 3, 1)
    stained: Tensor = means @ torch.linalg.inv(stains)
    return stained[..., :2].clamp_min(0)


_DENSITY_OF_LEVEL = -np.log((np.arange(256) + 1) / 256)


@njit(cache=True, nogil=True)
def _mean_densities(images, stride, density):  # type: ignore[no-untyped-def]
    """Mean density (n, grid_h, grid_w, 3) of images (n, height, width, 3), read once and never converted."""
    n, height, width, _ = images.shape
    out = np.zeros((n, height // stride, width // stride, 3), np.float32)
    row = np.empty((width // stride, 3))
    for image in range(n):
        for i in range(height // stride):
            row[:] = 0.0
            for y in range(i * stride, (i + 1) * stride):
                for j in range(width // stride):
                    red = green = blue = 0.0
                    for x in range(j * stride, (j + 1) * stride):
                        red += density[images[image, y, x, 0]]
                        green += density[images[image, y, x, 1]]
                        blue += density[images[image, y, x, 2]]
                    row[j, 0] += red
                    row[j, 1] += green
                    row[j, 2] += blue
            out[image, i] = row / (stride * stride)
    return out
