"""Keeps to a project's folder: projects come from other people, and links in them may lead anywhere."""

from __future__ import annotations

from pathlib import Path

from conceptseg.domain.errors import ProjectError


def part_of(project: Path, *names: str) -> Path:
    """A file or folder that belongs to a project, whether or not it is there yet.

    Args:
        project: The project file.
        names: The way from the project's folder to the part, a name for each folder.

    Raises:
        ProjectError: the way leads through a link, or a name is none.
    """
    path, real = project.parent, project.parent.resolve()
    for name in names:
        if name in ("", ".", "..") or "\0" in name or Path(name).name != name:
            raise ProjectError(f"{name[:100]!r} cannot be a file in {project.parent}: the project is damaged.")
        path, real = path / name, real / name
        if path.is_symlink() or path.resolve() != real:  # the latter finds the junctions of Windows
            raise ProjectError(
                f"{path} is a link. ConceptSeg follows no links inside a project, since they may lead out of its "
                "folder. Put what it leads to in its place."
            )
    return path


def require_file_of(project: Path, file: Path) -> None:
    """Raise ProjectError unless ``file`` is a file in the project's folder, or a link to one."""
    if file.is_symlink() and not file.exists():
        raise ProjectError(f"{file} is a link to a file that is not there. Get the file, or remove the link.")
    if not file.is_file():
        raise ProjectError(f"{file} is no file. Remove it.")
    if not file.resolve().is_relative_to(project.parent.resolve()):
        raise ProjectError(
            f"{file} is a link that leads out of the project's folder. Put the file that it leads to in its place."
        )
