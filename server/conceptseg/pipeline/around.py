"""The part of an image to look at for an outline."""

from __future__ import annotations

import shapely
from shapely import MultiPolygon, Polygon

from conceptseg.domain.region import Region
from conceptseg.imaging.reader import ImageReader
from conceptseg.imaging.source import RegionSource, open_region

WINDOW_PX = 1024


def open_around(
    reader: ImageReader, outline: Polygon | MultiPolygon, *, pixel_size_um: float, image_pixel_size_um: float | None
) -> RegionSource | None:
    """The bounds of an outline; of a larger one, a window of 1024 output px around its widest place.

    Args:
        reader: The image at the outline's plane.
        outline: In full-resolution px.
        pixel_size_um: µm per output px that the encoder expects.
        image_pixel_size_um: µm per full-resolution px; None to believe the file.

    Returns:
        None if the outline lies outside the image.
    """
    whole = Region(x=0, y=0, width=reader.width, height=reader.height, z=reader.z, t=reader.t)
    source = open_region(reader, region=whole, pixel_size_um=pixel_size_um, image_pixel_size_um=image_pixel_size_um)
    side = WINDOW_PX * source.grid.scale_x
    left, top, right, bottom = outline.bounds
    if max(right - left, bottom - top) > side:
        widest = shapely.get_point(shapely.maximum_inscribed_circle(outline, tolerance=side / 50), 0)
        left, right = max(left, widest.x - side / 2), min(right, widest.x + side / 2)
        top, bottom = max(top, widest.y - side / 2), min(bottom, widest.y + side / 2)
    region = whole.around((left, top, right, bottom))
    if region is None:
        return None
    return open_region(reader, region=region, pixel_size_um=pixel_size_um, image_pixel_size_um=image_pixel_size_um)
