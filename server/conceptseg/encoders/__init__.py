"""Frozen encoders: registry, weights, feature maps."""
