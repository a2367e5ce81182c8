"""Pixels: readers, resampling, tiling, tissue."""
