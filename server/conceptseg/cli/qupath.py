"""``conceptseg qupath``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from conceptseg.cli.options import FILE
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.qupath.install import (
    Report,
    UserFolder,
    choose_user_folders,
    find_extension,
    find_user_folders,
    remove_server_command,
    server_command_path,
    server_command_problem,
    write_server_command,
)
from conceptseg.qupath.install import install as install_into
from conceptseg.qupath.install import status as status_of
from conceptseg.qupath.install import uninstall as uninstall_from

_folder_option = click.option(
    "--qupath-user-dir",
    type=FILE,
    help="QuPath's user folder; default: that of every QuPath that is found.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group()
def qupath() -> None:
    """Install the extension and the scripts into QuPath."""


@qupath.command()
@_folder_option
@click.option("--compile/--no-compile", "ahead", default=True, help="Compile now what the first click would wait for.")
@_json_option
def install(qupath_user_dir: Path | None, ahead: bool, as_json: bool) -> None:
    """Install or update the extension, the scripts, and the command that starts the server.

    Can be repeated. Scripts that you edited are kept; their new version is written beside them.
    """
    extension = find_extension()
    reports = [install_into(folder, extension) for folder in choose_user_folders(qupath_user_dir)]
    command = write_server_command()
    if not as_json:
        _print(reports, nothing="Everything is up to date.")
        click.echo(f"QuPath starts the server as {command} says.")
    if ahead:
        if not as_json:
            click.echo("Compiling what the first segmentation needs: about a minute, once on this computer ...")
        _compile_ahead()
    if as_json:
        _print_json(reports, server_command=str(command))
        return
    click.echo("Now (re)start QuPath and look for Extensions > ConceptSeg.")


@qupath.command()
@_folder_option
@_json_option
def uninstall(qupath_user_dir: Path | None, as_json: bool) -> None:
    """Remove what `install` wrote. Scripts that you edited are kept."""
    reports = [uninstall_from(folder) for folder in choose_user_folders(qupath_user_dir)]
    command = remove_server_command() if qupath_user_dir is None else None
    if as_json:
        _print_json(reports, server_command=str(command) if command else None)
        return
    _print(reports, nothing="Nothing of ConceptSeg was installed.")
    if command:
        click.echo(f"Removed {command}")


@qupath.command()
@_folder_option
@_json_option
def status(qupath_user_dir: Path | None, as_json: bool) -> int:
    """Show what is installed where, and what to do about what is not. Exit code 1 if there is something to do."""
    try:
        extension = find_extension()
    except InvalidRequestError:
        extension = None
    folders = find_user_folders() if qupath_user_dir is None else choose_user_folders(qupath_user_dir)
    reports = [status_of(folder, extension) for folder in folders]
    problems = [problem for problem in [server_command_problem()] if problem]
    if not folders:
        problems.append("No QuPath was found. Start QuPath once, or use --qupath-user-dir.")
    if extension is None:
        problems.append("This installation of conceptseg carries no QuPath extension: see `conceptseg qupath install`.")
    if as_json:
        _print_json(reports, server_command=str(server_command_path()), problems=problems)
    else:
        _print(reports, nothing="")
        for problem in problems:
            click.echo(f"-> {problem}")
    return 1 if problems or any(report.advice for report in reports) else 0


def _print(reports: Sequence[Report], *, nothing: str) -> None:
    for report in reports:
        click.echo(f"{_title(report.folder)}:")
        for line in [*report.done, *report.kept] or ([nothing] if nothing else []):
            click.echo(f"  {line}")
        for line in report.advice:
            click.echo(f"  -> {line}")


def _title(folder: UserFolder) -> str:
    return f"QuPath {', '.join(folder.versions)} ({folder.path})" if folder.versions else str(folder.path)


def _print_json(reports: Sequence[Report], **others: object) -> None:
    folders = [
        {
            "folder": str(report.folder.path),
            "qupath_versions": list(report.folder.versions),
            "done": report.done,
            "kept": report.kept,
            "advice": report.advice,
        }
        for report in reports
    ]
    click.echo(json.dumps({"folders": folders, **others}))


def _compile_ahead() -> None:
    # Here, since only this waits for torch.
    from conceptseg.encoders.load import load_encoder
    from conceptseg.factorization.library import find_dictionary
    from conceptseg.pipeline.first_use import compile_ahead

    compile_ahead(load_encoder("default"), find_dictionary(encoder="default", name=None, k=16))
