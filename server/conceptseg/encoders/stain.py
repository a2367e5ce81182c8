"""How much haematoxylin and eosin there is, as every pathologist sees it and ImageNet features hardly do."""

from __future__ import annotations

import torch
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
    densities = -torch.log((images.float() + 1) / 256)
    means = torch.nn.functional.avg_pool2d(densities.permute(0, 3, 1, 2), stride_px).permute(0, 2, 3, 1)
    stained: Tensor = means @ torch.linalg.inv(stains)
    return stained[..., :2].clamp_min(0)
