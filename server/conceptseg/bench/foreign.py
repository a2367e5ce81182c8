"""``PEER_PYTHON -m conceptseg.bench.foreign PEER JSON``: another program on the same input, in its own environment.

Runs where the peer is installed and ConceptSeg is not: of ConceptSeg it imports what needs torch alone. Prints JSON
with its version, how many items it made, and its seconds by default and at the best setting.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptseg.bench.bare import bare_layer
from conceptseg.encoders.features import LayerFeatures

TILE_PX = 256
PIXEL_SIZE_UM = 0.5
DEFAULTS: dict[str, Any] = {}
"""No setting: what the peer does by itself."""

TUNED: tuple[dict[str, Any], ...] = tuple(
    {"batch_size": batch, "num_workers": workers, "channels_last": True} for batch in (4, 16) for workers in (0, 2)
)


class TileFeatures(nn.Module):
    """The benchmarked layer, averaged over a tile: (n, 3, h, w) to (n, channels), as feature extraction stores it."""

    def __init__(self, encoder: Mapping[str, Any], *, channels_last: bool):
        super().__init__()
        self.layer = _layer(encoder)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.layer.to(memory_format=self.memory_format)

    def forward(self, images: Tensor) -> Tensor:
        """Mean over the grid."""
        features: Tensor = self.layer(images.contiguous(memory_format=self.memory_format))
        return features.mean(dim=(1, 2))


def _layer(encoder: Mapping[str, Any]) -> LayerFeatures:
    return bare_layer(**{key: encoder[key] for key in ("architecture", "arguments", "layer")})


def extract_with_lazyslide(task: Mapping[str, Any]) -> dict[str, Any]:
    """Tile the slide, extract a feature per tile."""
    import lazyslide
    from torchvision.transforms import v2
    from wsidata import open_wsi

    normalise = v2.Normalize(task["encoder"]["mean"], task["encoder"]["std"])
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), normalise])

    def extract(features: TileFeatures, loading: Mapping[str, int]) -> int:
        with tempfile.TemporaryDirectory() as folder:
            slide = open_wsi(task["slide"], store=str(Path(folder) / "slide.zarr"))
            lazyslide.pp.tile_tissues(slide, TILE_PX, mpp=PIXEL_SIZE_UM, tissue_key=None, background_filter=False)
            found = lazyslide.tl.feature_extraction(
                slide, features, transform=transform, device="cpu", pbar=False, return_features=True, **loading
            )
        return len(found)

    return _extraction(extract, task)


def extract_with_tiatoolbox(task: Mapping[str, Any]) -> dict[str, Any]:
    """Extract a feature per tile of the slide."""
    import zarr
    from tiatoolbox.models.architecture.vanilla import TimmBackbone
    from tiatoolbox.models.engine.deep_feature_extractor import DeepFeatureExtractor
    from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig

    mean, std = (np.array(task["encoder"][key], np.float32) for key in ("mean", "std"))
    sizes = IOPatchPredictorConfig(
        patch_input_shape=(TILE_PX, TILE_PX),
        stride_shape=(TILE_PX, TILE_PX),
        input_resolutions=[{"units": "mpp", "resolution": PIXEL_SIZE_UM}],
    )

    def extract(features: TileFeatures, loading: Mapping[str, int]) -> int:
        model = TimmBackbone("efficientnet_b0", pretrained=False)
        model.feat_extract = features
        model.preproc_func = lambda tile: (np.asarray(tile, np.float32) / 255 - mean) / std
        engine = DeepFeatureExtractor(model, device="cpu", verbose=False, **loading)
        with tempfile.TemporaryDirectory() as folder:
            written = engine.run(
                [task["slide"]],
                patch_mode=False,
                ioconfig=sizes,
                auto_get_mask=False,
                save_dir=Path(folder) / "features",
                output_type="zarr",
                **loading,
            )
            (store,) = written.values() if isinstance(written, dict) else written
            group = zarr.open(str(store), mode="r")
            return int(group["coordinates"].shape[0])

    return _extraction(extract, task)


def factorize_with_grad_cam(task: Mapping[str, Any]) -> dict[str, Any]:
    """Deep feature factorization of an image, up to heat maps of its size."""
    from pytorch_grad_cam import DeepFeatureFactorization

    layer = _layer(task["encoder"]).to(memory_format=torch.channels_last)
    image = np.load(task["image"])
    mean, std = (torch.tensor(task["encoder"][key]) for key in ("mean", "std"))

    class Grid(nn.Module):
        """The layer's grid with channels first, as the library expects it."""

        def forward(self, images: Tensor) -> Tensor:
            features: Tensor = layer(images)
            return features.permute(0, 3, 1, 2)

    grid = Grid()
    model = nn.Sequential(grid)

    def factorize(_: Mapping[str, Any]) -> int:
        pixels = ((torch.from_numpy(image) / 255 - mean) / std).permute(2, 0, 1)[None]
        factorization = DeepFeatureFactorization(model, grid)
        _, maps = factorization(pixels, task["k"])
        return int(np.argmax(maps[0], axis=0).size)

    return _settings(factorize, tuned=())


def _extraction(extract: Callable[[TileFeatures, Mapping[str, int]], int], task: Mapping[str, Any]) -> dict[str, Any]:
    def call(settings: Mapping[str, Any]) -> int:
        loading = dict(settings)
        features = TileFeatures(task["encoder"], channels_last=loading.pop("channels_last", False))
        return extract(features, loading)

    return _settings(call, tuned=TUNED)


def _settings(call: Callable[[Mapping[str, Any]], int], *, tuned: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Seconds by default and at the best of some settings; each runs once, after one run that does not count."""
    call(DEFAULTS)
    seconds = []
    for settings in (DEFAULTS, *tuned):
        started = time.perf_counter()
        items = call(settings)
        seconds.append((time.perf_counter() - started, settings))
    best, setting = min(seconds, key=lambda one: one[0])
    return {"items": items, "default_seconds": seconds[0][0], "best_seconds": best, "best_setting": setting}


PEERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "lazyslide": extract_with_lazyslide,
    "tiatoolbox": extract_with_tiatoolbox,
    "grad-cam": factorize_with_grad_cam,
}


if __name__ == "__main__":
    name, described = sys.argv[1:]
    with torch.inference_mode(name != "grad-cam"):
        found = PEERS[name](json.loads(described))
    print(json.dumps({"version": version(name), **found}))
