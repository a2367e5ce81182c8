"""Images that a command is given as files, folders and QuPath projects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.imaging.openslide_reader import holds_dicom
from conceptseg.imaging.reader import ImageReader, open_image
from conceptseg.imaging.source import PixelSource, open_region
from conceptseg.pipeline.collect import ImageToRead
from conceptseg.qupath.project.entries import (
    ImageEntry,
    choose,
    find_project,
    projects_in,
    read_entries,
)
from conceptseg.qupath.slide import open_slide

SUFFIXES = frozenset(
    {".svs", ".ndpi", ".mrxs", ".scn", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".vms", ".bif"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """An image that a command was given.

    Attributes:
        name: What messages call it.
        path: Its file; of an image of a project that has none, the project's.
        pixel_size_um: µm per full-resolution px as QuPath has it, which wins over the file; None without.
        open: Opens it.
        series: Its number inside the file, where a project says one.
    """

    name: str
    path: Path
    pixel_size_um: float | None
    open: Callable[[], ImageReader]
    series: int | None = None

    def to_read(self, *, encoder_pixel_size_um: float, otherwise_um: float | None) -> ImageToRead:
        """The whole image for an encoder.

        Args:
            encoder_pixel_size_um: µm per px that the encoder expects.
            otherwise_um: µm per full-resolution px where neither QuPath nor the file says.
        """

        @contextmanager
        def opened() -> Iterator[PixelSource]:
            with self.open() as reader:
                own = self.pixel_size_um or (otherwise_um if reader.pixel_size_um is None else None)
                yield open_region(reader, region=None, pixel_size_um=encoder_pixel_size_um, image_pixel_size_um=own)

        return ImageToRead(name=self.name, identity=self._identity(otherwise_um), open=opened)

    def _identity(self, otherwise_um: float | None) -> dict[str, str]:
        identity = {"path": str(self.path.absolute())}
        try:
            status = self.path.stat()
            identity |= {"size": str(status.st_size), "modified": str(status.st_mtime_ns)}
        except OSError:
            identity["size"] = "missing"
        if self.series:
            identity["series"] = str(self.series)
        return identity | {"pixel_size_um": str(self.pixel_size_um), "otherwise_um": str(otherwise_um)}


def find_images(
    paths: Sequence[Path], *, patterns: Sequence[str] = (), rebase: tuple[str, Path] | None = None
) -> list[ImageInput]:
    """The images that files, folders and QuPath projects hold; each once.

    Args:
        paths: Image files, folders that are searched for images, ``project.qpproj`` files or their folders.
        patterns: Only images of projects with such a name, as `choose` takes them.
        rebase: Folder where projects say that slides are, and where they are now.

    Raises:
        InvalidRequestError: a path that is not there, or a folder without images.
        ProjectError: a project cannot be read.
    """
    require_project(paths, patterns=patterns, rebase=rebase)
    found: dict[tuple[Path, int], ImageInput] = {}
    for path in paths:
        for image in _images_at(path, patterns, rebase):
            found.setdefault((image.path.absolute(), image.series or 0), image)
    return list(found.values())


def require_project(paths: Sequence[Path], *, patterns: Sequence[str], rebase: tuple[str, Path] | None) -> None:
    """Raise InvalidRequestError for options that are for projects where there is none."""
    option = "--images" if patterns else "--rebase" if rebase else None
    if option and not any(is_project(path) for path in paths):
        raise InvalidRequestError(f"{option} has no effect without a QuPath project. Leave it out.")


def is_project(path: Path) -> bool:
    """Whether a path is a QuPath project, or the folder of one."""
    return path.suffix == ".qpproj" or len(projects_in(path)) == 1


def project_entries(
    project: Path, *, patterns: Sequence[str], rebase: tuple[str, Path] | None
) -> tuple[ImageEntry, ...]:
    """The images of a project file that were meant, with their slides where they are now."""
    return choose(read_entries(project, rebase=rebase), patterns=patterns)


def _images_at(path: Path, patterns: Sequence[str], rebase: tuple[str, Path] | None) -> Iterator[ImageInput]:
    if is_project(path):
        yield from _of_project(find_project(path), patterns, rebase)
    elif path.is_dir():
        files = sorted(_search(path))
        if not files:
            raise InvalidRequestError(f"{path} holds no image. Expected files ending in {', '.join(sorted(SUFFIXES))}.")
        for file in files:
            yield _of_file(file)
    else:
        yield _of_file(path)


def _of_file(path: Path) -> ImageInput:
    return ImageInput(name=str(path), path=path, pixel_size_um=None, open=lambda: open_image(path))


def _of_project(project: Path, patterns: Sequence[str], rebase: tuple[str, Path] | None) -> Iterator[ImageInput]:
    for entry in project_entries(project, patterns=patterns, rebase=rebase):
        yield ImageInput(
            name=entry.name,
            # Images that lie in no file of their own are told apart by their number.
            path=entry.slide or project.parent / "data" / entry.identifier,
            pixel_size_um=entry.pixel_size_um,
            open=lambda entry=entry: open_slide(entry),  # type: ignore[misc]
            series=entry.series,
        )


def _search(folder: Path) -> Iterator[Path]:
    """Images below a folder, without hidden files and without what QuPath keeps in the ``data`` of a project.

    A folder with the files of a DICOM slide is an image itself.
    """
    if holds_dicom(folder):
        yield folder
    inside_project = bool(projects_in(folder))
    for item in folder.iterdir():
        if item.name.startswith("."):
            continue
        if item.is_dir():
            if not (inside_project and item.name == "data"):
                yield from _search(item)
        elif item.suffix.lower() in SUFFIXES:
            yield item
