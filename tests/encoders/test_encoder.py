"""Encoders turn tiles into feature maps."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from conceptseg.domain.errors import DeviceMemoryError, EncoderError, InvalidRequestError, WeightsUnavailableError
from conceptseg.encoders import precision
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.features import receptive_radius_px
from conceptseg.encoders.load import choose_devices, load_encoder
from conceptseg.encoders.precision import dtype_for
from conceptseg.encoders.stain import stain_densities


@pytest.fixture(scope="module")
def default():
    return load_encoder("default", device="cpu")


@pytest.fixture(scope="module")
def plain():
    return load_encoder("efficientnet-lite0", device="cpu")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_the_default_encoder_has_its_imagenet_weights(plain):
    # ImageNet features see structure: two views of one texture are closer than two textures.
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::6] = 255
    views = np.stack([stripes, np.roll(stripes, 16, axis=1), noise(96, 96, 3)])
    features = plain.encode(views).flatten(1)
    assert features.min() == 0
    assert 0 < features.max() <= 6  # ReLU6
    similarity = torch.nn.functional.cosine_similarity
    assert similarity(features[0], features[1], dim=0) > similarity(features[0], features[2], dim=0) + 0.1


def test_the_default_encoder_is_the_plain_one_at_unit_length_with_stains_over_neighbouring_tokens(default, plain):
    tile = noise(1, 128, 128, 3)
    features = plain.encode(tile)[0].numpy()
    unit = features / np.linalg.norm(features, axis=2, keepdims=True)
    densities = -np.log((tile[0].astype(float) + 1) / 256).reshape(8, 16, 8, 16, 3).mean(axis=(1, 3))
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    parts = np.linalg.solve(stains.T, densities.reshape(-1, 3).T).T[:, :2].clip(0).reshape(8, 8, 2)
    expected = np.concatenate([unit, default.spec.stain_weight * parts], axis=2)[2:5, 3:6].mean(axis=(0, 1))
    np.testing.assert_allclose(default.encode(tile)[0, 3, 4], expected, atol=1e-5)


def test_stains_are_told_apart():
    colours = [(255, 255, 255), (90, 60, 140), (230, 120, 190)]  # nothing, nuclei, fibres
    tiles = torch.tensor(np.stack([np.full((16, 16, 3), colour, np.uint8) for colour in colours]))
    none, haematoxylin, eosin = stain_densities(tiles, stride_px=16)[:, 0, 0]
    assert none.max() == 0
    assert haematoxylin[0] > haematoxylin[1]
    assert eosin[1] > eosin[0]


def test_the_halo_of_the_default_encoder_holds_its_receptive_field(default):
    neighbour_px = 16  # the mean over 3 × 3 tokens
    assert receptive_radius_px(default._features, stride_px=16, probe_px=512) + neighbour_px <= default.spec.halo_px


def test_the_halo_of_resnet50_holds_its_receptive_field():
    encoder = load_encoder("resnet50", device="cpu", random_weights=True)
    assert receptive_radius_px(encoder._features, stride_px=16, probe_px=512) <= encoder.spec.halo_px


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("default", 128, (8, 8, 482)),
        ("efficientnet-lite0", 128, (8, 8, 480)),
        ("resnet50", 128, (8, 8, 1024)),
        ("lunit-vits16", 224, (14, 14, 384)),
        ("timm:resnet18@layer2", 64, (8, 8, 128)),
        ("timm:vit_tiny_patch16_224", 224, (14, 14, 192)),
        ("timm:vit_small_patch14_reg4_dinov2", 518, (37, 37, 384)),
    ],
)
def test_feature_maps_have_the_shape_the_description_says_and_repeat_exactly(name, side, expected):
    encoder = load_encoder(name, device="cpu", random_weights=True)
    tiles = noise(1, side, side, 3)
    first = encoder.encode(tiles)
    assert first.shape == (1, *expected)
    assert (encoder.spec.channels, side // encoder.spec.stride_px) == (expected[2], expected[0])
    assert first.min() >= 0
    assert torch.equal(first, encoder.encode(tiles))
    again = load_encoder(name, device="cpu", random_weights=True).encode(tiles)
    assert torch.equal(first, again)


def test_a_token_does_not_depend_on_its_batch(default):
    tiles = noise(3, 64, 64, 3)
    torch.testing.assert_close(default.encode(tiles)[1:2], default.encode(tiles[1:2]), rtol=1e-5, atol=1e-5)


def test_tiles_of_a_wrong_shape_are_refused(default):
    with pytest.raises(InvalidRequestError, match="multiples of 16 px"):
        default.encode(noise(1, 60, 64, 3))
    with pytest.raises(InvalidRequestError, match="windows of 224 × 224"):
        load_encoder("lunit-vits16", device="cpu", random_weights=True).encode(noise(1, 64, 64, 3))


class _SmallMemory(torch.nn.Module):
    """Fails like a full GPU when a batch is larger than it can hold."""

    def __init__(self, holds):
        super().__init__()
        self.holds = holds

    def forward(self, images):
        if len(images) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images.permute(0, 2, 3, 1)[:, ::16, ::16].relu()


def test_a_batch_that_does_not_fit_is_halved_and_the_result_is_the_same(default):
    encoder = Encoder(replace(default.spec, channels=3), _SmallMemory(holds=2), device=torch.device("cpu"))
    encoder.batch_tiles = 8
    tiles = noise(7, 32, 32, 3)
    features = encoder.encode(tiles)
    encoder.batch_tiles = 1
    assert torch.equal(features, encoder.encode(tiles))


def test_a_tile_that_does_not_fit_alone_says_what_to_do(default):
    encoder = Encoder(default.spec, _SmallMemory(holds=0), device=torch.device("cpu"))
    with pytest.raises(DeviceMemoryError, match="--tile-px"):
        encoder.encode(noise(1, 32, 32, 3))


def test_a_local_checkpoint_is_loaded_whatever_its_wrapping(tmp_path):
    source = timm.create_model("resnet18", pretrained=False)
    tiles = noise(1, 64, 64, 3)
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "b.pth")
    results = [
        load_encoder("timm:resnet18", device="cpu", weights=tmp_path / name).encode(tiles)
        for name in ("a.safetensors", "b.pth")
    ]
    assert torch.equal(*results)
    other = load_encoder("timm:resnet18", device="cpu", random_weights=True).encode(tiles)
    assert not torch.equal(results[0], other)


class _Payload:
    def __reduce__(self):
        return (pytest.fail, ("a checkpoint was executed",))


@pytest.mark.parametrize("content", ["missing", "garbage", "malicious", "other"])
def test_a_checkpoint_that_does_not_fit_is_one_clear_message(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif content == "malicious":
        torch.save({"conv1.weight": _Payload()}, path)
    elif content == "other":
        torch.save(timm.create_model("resnet34", pretrained=False).state_dict(), path)
    expected = {"missing": "no such file", "other": "does not fit encoder"}.get(content, "not a readable checkpoint")
    name = "resnet50" if content == "other" else "timm:resnet18"
    with pytest.raises(WeightsUnavailableError, match=expected):
        load_encoder(name, device="cpu", weights=path)


def test_gated_weights_that_cannot_be_had_are_one_message_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsUnavailableError) as error:
        load_encoder("uni", device="cpu")
    for part in ("huggingface.co/MahmoodLab/uni", "accept its licence", "hf auth login", "--weights FILE"):
        assert part in str(error.value)


def test_a_processor_computes_in_float32_and_so_do_gpus_that_only_emulate_bfloat16(monkeypatch):
    assert dtype_for([torch.device("cpu")], None) == torch.float32
    for capability, dtype in (((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device, it=capability: it)
        assert dtype_for([torch.device("cuda")], None) == dtype
        assert dtype_for([torch.device("cuda")], "float32") == torch.float32


def test_gpus_that_take_turns_compute_in_what_all_of_them_have(monkeypatch):
    old, new = torch.device("cuda:0"), torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5) if device == old else (9, 0))
    assert dtype_for([old, new], None) == torch.float32
    assert dtype_for([new, new], None) == torch.bfloat16


def test_bfloat16_is_for_processors_that_compute_in_it_and_changes_features_by_its_rounding(monkeypatch):
    monkeypatch.setattr(precision, "_processor_has_bfloat16", lambda: False)
    with pytest.raises(EncoderError, match="AVX-512"):
        load_encoder("lunit-vits16", device="cpu/bfloat16", random_weights=True)
    monkeypatch.setattr(precision, "_processor_has_bfloat16", lambda: True)
    tiles = noise(1, 224, 224, 3)
    ours, exact = (
        load_encoder("lunit-vits16", device=device, random_weights=True).encode(tiles)
        for device in ("cpu/bfloat16", "cpu/float32")
    )
    assert ours.dtype == exact.dtype == torch.float32
    difference = (ours - exact).norm() / exact.norm()
    assert 1e-4 < difference < 0.05


def test_a_precision_is_one_of_two():
    with pytest.raises(EncoderError, match="float32 or bfloat16 after the slash, got 'half'"):
        load_encoder("default", device="auto/half")


def test_a_device_that_is_not_there_is_refused_with_a_remedy():
    with pytest.raises(EncoderError, match="--device auto"):
        choose_devices("cuda:99")
    with pytest.raises(EncoderError, match="--device auto"):
        choose_devices("abacus")


def test_a_layer_that_is_not_there_is_refused_with_those_there_are():
    with pytest.raises(EncoderError, match=r"no layer 'layer9'.*layer1"):
        load_encoder("timm:resnet18@layer9", device="cpu", random_weights=True)
