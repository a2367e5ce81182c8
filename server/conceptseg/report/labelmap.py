"""Label maps as image files."""

from __future__ import annotations

import json
from pathlib import Path

import tifffile
from PIL import Image

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.files import replacing
from conceptseg.domain.labels import LabelMap

_TILE = (256, 256)
_CLASSIC_TIFF_BYTES = 2**32 - 2**25  # classic TIFF ends at 4 GiB; the rest is for its directory


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write the labels as ``.png``, or as ``.tif`` that also knows where and how large its pixels are.

    Pixel values are the labels themselves: 0 = unlabelled, concept k -> k + 1; 8 or 16 bits as in
    ``label_map``. The TIFF is tiled and deflated, has its resolution in px/cm, and a JSON ImageDescription
    with ``region`` (full-resolution px), ``downsample_x`` and ``downsample_y`` (full-resolution px per label
    px, so that ``x_full = region.x + downsample_x * x``), ``pixel_size_um`` (µm per label px) and
    ``n_concepts``.

    Args:
        path: Ends in ``.png``, ``.tif`` or ``.tiff``.
        label_map: What to write.

    Raises:
        InvalidRequestError: the suffix is another one.
        OutputError: the file cannot be written; an existing file stays as it was.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".png":
        with replacing(path) as temporary:
            Image.fromarray(label_map.labels).save(temporary, format="PNG")
    elif suffix in (".tif", ".tiff"):
        with replacing(path) as temporary:
            _write_tiff(temporary, label_map)
    else:
        raise InvalidRequestError(f"Cannot write a label map to {path}: expected a name in .png, .tif or .tiff.")


def _write_tiff(path: Path, label_map: LabelMap) -> None:
    grid = label_map.grid
    region = grid.region
    description = {
        "content": "ConceptSeg label map: 0 = unlabelled, concept k -> k + 1",
        "region": {
            "x": region.x,
            "y": region.y,
            "width": region.width,
            "height": region.height,
            "z": region.z,
            "t": region.t,
        },
        "downsample_x": grid.scale_x,
        "downsample_y": grid.scale_y,
        "pixel_size_um": grid.pixel_size_um,
        "n_concepts": label_map.n_concepts,
    }
    um_per_cm = 10_000
    tifffile.imwrite(
        path,
        label_map.labels,
        bigtiff=label_map.labels.nbytes > _CLASSIC_TIFF_BYTES,
        photometric="minisblack",
        tile=_TILE,
        compression="zlib",
        resolution=(
            um_per_cm / (grid.full_pixel_size_um * grid.scale_x),
            um_per_cm / (grid.full_pixel_size_um * grid.scale_y),
        ),
        resolutionunit="CENTIMETER",
        description=json.dumps(description),
        metadata=None,
        software="ConceptSeg",
    )
