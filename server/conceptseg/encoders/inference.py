"""The same function with fewer passes over memory: for inference only."""

from __future__ import annotations

from itertools import pairwise

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norm(module: nn.Module, *, tapped: str) -> None:
    """Fold every batch norm that directly follows a convolution into it, in place.

    The same function up to rounding: on CPU the default encoder runs about twice as fast. The activation that
    timm's ``BatchNormAct2d`` brings along is joined with the convolution, see `ConvolutionActivation`.

    Args:
        module: The model, with or without batch norms.
        tapped: Name of the layer in ``module`` whose output must stay what it is.
    """
    for (before, convolution), (name, norm) in pairwise(list(module.named_children())):
        if not (isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        if tapped == before or tapped.startswith(f"{name}."):
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        if isinstance(norm, BatchNormAct2d):
            setattr(module, before, ConvolutionActivation(convolution, norm.act))
        setattr(module, name, nn.Identity())
    for name, child in module.named_children():
        inner = tapped.removeprefix(f"{name}.")
        fold_batch_norm(child, tapped="" if inner == tapped else inner)


class ConvolutionActivation(nn.Module):
    """A convolution and its activation; one pass over memory on CPU, where oneDNN has them together.

    The result of one after the other up to rounding. torch reaches the joint operator only through its compiler,
    which needs a C++ compiler on the user's machine, or by its private name, as here; without that name, with
    gradients, on other devices and for other activations the two run one after the other.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module):
        super().__init__()
        self.convolution = convolution
        self.activation = activation
        self._joint = _joint(activation)
        self._padding, self._skip = _padding(convolution)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated output of the convolution."""
        convolution, (stride, _) = self.convolution, self.convolution.stride
        apart = x.device.type != "cpu" or torch.is_grad_enabled() or x.shape[2] % stride or x.shape[3] % stride
        if self._joint is None or self._padding is None or apart:
            return self.activation(convolution(x))  # type: ignore[no-any-return]
        y = torch.ops.mkldnn._convolution_pointwise(
            x,
            convolution.weight,
            convolution.bias,
            self._padding,
            convolution.stride,
            convolution.dilation,
            convolution.groups,
            *self._joint,
            "",
        )
        return y[:, :, self._skip :, self._skip :]  # type: ignore[no-any-return]


def _joint(activation: nn.Module) -> tuple[str, list[float]] | None:
    """Name and arguments of an activation in oneDNN's joint operator; None where there is none."""
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return None
    return {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}.get(type(activation))


def _padding(convolution: nn.Conv2d) -> tuple[tuple[int, int] | None, int]:
    """Equal padding on all sides, and how many first rows and columns of the output to drop, for the same output.

    TensorFlow's padding of a strided convolution has one px more at the right and bottom, for which torch copies
    the whole input; one stride more at the left and top instead costs one row and column of output. Right for
    inputs whose sides are multiples of the stride. None where this module does not know the convolution.
    """
    kernel, stride = convolution.kernel_size, convolution.stride
    if convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
        return None, 0
    if type(convolution) is nn.Conv2d:
        return (convolution.padding[0], convolution.padding[1]), 0
    square = kernel[0] == kernel[1] >= stride[0] == stride[1] and convolution.dilation == (1, 1)
    if type(convolution) is not Conv2dSame or not square:
        return None, 0
    before, uneven = divmod(kernel[0] - stride[0], 2)
    return (before + uneven * stride[0],) * 2, uneven
