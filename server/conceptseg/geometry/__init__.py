"""Label maps to one planar coverage of polygons."""
