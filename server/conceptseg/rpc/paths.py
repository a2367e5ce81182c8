"""Which files a client may name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conceptseg.domain.errors import ImageError, InvalidRequestError
from conceptseg.rpc.errors import PathNotAllowedError


class AllowedRoots:
    """The folders below which the server opens image files; without any it opens none."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """Take ``roots``, which must exist.

        Raises:
            InvalidRequestError: a root is not a folder.
        """
        for root in roots:
            if not root.is_dir():
                raise InvalidRequestError(f"--root {root}: there is no such folder.")
        self.roots = tuple(root.resolve() for root in roots)

    def resolve(self, path: str) -> Path:
        """The file that ``path`` means, after links and ``..``.

        Raises:
            PathNotAllowedError: it lies elsewhere (whether or not it exists), or is a device, pipe or socket.
            ImageError: there is no such file, or it is a folder.
            InvalidRequestError: not an absolute path.
        """
        if not self.roots:
            raise PathNotAllowedError(
                "This server opens no files. Start it with `conceptseg serve --root FOLDER` to let it read the images "
                "in a folder, or send the pixels (SegmentPixels)."
            )
        if not path or "\0" in path or not Path(path).is_absolute():
            raise InvalidRequestError(f"Expected the absolute path of a file on the server, got {path[:200]!r}.")
        try:
            real = Path(path).resolve()
            allowed = any(real.is_relative_to(root) for root in self.roots)
            found, regular, folder = real.exists(), real.is_file(), real.is_dir()
        except (OSError, RuntimeError, ValueError):  # too long, a loop of links, not encodable
            allowed = found = regular = folder = False
        if not allowed:
            raise PathNotAllowedError(
                f"{path[:500]} does not lie in a folder that this server may read. Allowed: "
                f"{', '.join(map(str, self.roots))}. Add its folder with --root, or send the pixels (SegmentPixels)."
            )
        if not found:
            raise ImageError(f"There is no file {path[:500]} on the server's computer. Check the path.")
        if folder:
            raise ImageError(
                f"{path[:500]} is a folder: expected a file. Name an image, or the project.qpproj, inside it."
            )
        if not regular:
            raise PathNotAllowedError(f"{path[:500]} is not a regular file; the server opens nothing else.")
        return real
