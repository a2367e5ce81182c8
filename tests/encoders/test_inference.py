"""Models made faster compute what they computed before."""

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

from conceptseg.encoders.features import LayerFeatures
from conceptseg.encoders.inference import ConvolutionActivation, fold_batch_norm


def model_of(architecture: str) -> nn.Module:
    """An architecture with random weights, and batch norms far from the identity."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(1)
        model = timm.create_model(architecture, pretrained=False).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
    return model.requires_grad_(False)


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [
        ("tf_efficientnet_lite0", "blocks.4.0.bn1"),
        ("tf_efficientnet_lite0", "blocks.4.0.conv_pw"),
        ("tf_efficientnet_lite0", "blocks.4.0.bn1.drop"),
        ("resnet18", "layer3"),
        ("resnet18", "layer3.0.conv1"),
        ("mobilenetv3_small_050", "blocks.3"),
        ("regnetx_002", "s3"),
    ],
)
@pytest.mark.parametrize("side", [64, 80])
def test_folding_batch_norms_changes_nothing_but_rounding(architecture, layer, side):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    model = model_of(architecture)
    with torch.inference_mode():
        plain = LayerFeatures(model_of(architecture), layer=layer)(images)
    fold_batch_norm(model, tapped=layer)
    with torch.inference_mode():
        folded = LayerFeatures(model, layer=layer)(images)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) <= 1, "it is folded"
    assert plain.std() > 0
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4 * plain.max().item())


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.SiLU()])
@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("side", [12, 24, 25])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3, 4, 5, 7])
def test_a_convolution_and_its_activation_give_together_what_they_give_in_turn(
    kernel, stride, side, groups, activation
):
    images = 5 * torch.randn(1, 8, side, side, generator=torch.Generator().manual_seed(0))
    for convolution in (
        nn.Conv2d(8, 8, kernel, stride=stride, padding=kernel // 2, groups=groups),
        nn.Conv2d(8, 8, kernel, padding="same", groups=groups),
        nn.Conv2d(8, 8, kernel, stride=stride, padding=kernel // 2, padding_mode="reflect", groups=groups),
        Conv2dSame(8, 8, kernel, stride=stride, groups=groups),
        Conv2dSame(8, 8, kernel, dilation=2, groups=groups),
    ):
        with torch.inference_mode():
            together = ConvolutionActivation(convolution, activation)(images)
            torch.testing.assert_close(together, activation(convolution(images)), rtol=1e-5, atol=1e-5)


def test_gradients_pass_through_a_convolution_and_its_activation():
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    ConvolutionActivation(nn.Conv2d(3, 4, 3), nn.ReLU())(images).sum().backward()
    assert images.grad.abs().sum() > 0
