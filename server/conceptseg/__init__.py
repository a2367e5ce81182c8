"""ConceptSeg: unsupervised tissue concepts for QuPath."""

__version__ = "0.1.0"
