"""Slides for tests of reports: real tissue, cut into stripes of concepts that touch each other."""

from pathlib import Path

from PIL import Image
from shapely import box

from conceptseg.report.evidence import Evidence, Piece, Slide

SIZE = 512


def tissue_file(folder: Path, name: str = "tissue.png") -> Path:
    from skimage.data import immunohistochemistry

    path = folder / name
    Image.fromarray(immunohistochemistry()[:SIZE, :SIZE]).save(path)
    return path


def piece(concept=0, outline=None, *, activation=0.5, purity=0.8, dictionary="demo-k4", **others):
    concepts = concept if isinstance(concept, tuple) else (concept,)
    outline = outline or box(0, 0, 100, 100)
    measurements = {"Mean activation": activation, "Concept purity": purity, "Area µm^2": outline.area / 4}
    defaults = {"class_name": f"Concept {concepts[0]:02d}", "run": "run-1", "measurements": measurements}
    return Piece(outline=outline, dictionary=dictionary, concepts=concepts, **(defaults | others))


def stripes(count, *, size=SIZE):
    """One stripe per concept from left to right, each with its own activation and purity."""
    width = size / count
    return tuple(
        piece(k, box(k * width, 0, (k + 1) * width, size), activation=0.2 + k / count, purity=0.9 - k / (2 * count))
        for k in range(count)
    )


def slide(pieces=(), *, file=None, name="slide.png", **others):
    return Slide(name=name, file=file, pieces=tuple(pieces), **({"pixel_size_um": 0.5} | others))


def evidence(*slides, title="Study", **others):
    return Evidence(title=title, slides=slides, **others)
