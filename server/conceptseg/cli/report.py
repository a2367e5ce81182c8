"""``conceptseg report``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from conceptseg.cli.options import FILE, require_effect
from conceptseg.cli.outputs import require_writable
from conceptseg.cli.progress import progress_bar
from conceptseg.cli.report_labels import ServedLabels
from conceptseg.cli.report_sources import file_evidence, is_project, labels_of, project_evidence, with_dictionary
from conceptseg.domain.errors import InvalidRequestError, ProjectError
from conceptseg.domain.per_file import PerFile
from conceptseg.qupath.apply_labels import apply_labels
from conceptseg.qupath.project.classes import class_colours
from conceptseg.qupath.project.entries import choose, find_project
from conceptseg.qupath.project.inside import part_of
from conceptseg.qupath.project.labels import LABELS_FILE, Labels
from conceptseg.qupath.running import require_closed
from conceptseg.qupath.writer_process import ProjectProcess
from conceptseg.report.document import Document, build
from conceptseg.report.evidence import Evidence
from conceptseg.report.page import render, write_page
from conceptseg.report.review import review_of
from conceptseg.report.serve import Action, ReviewServer


@click.command()
@click.argument("sources", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, help="The page (.html).")
@click.option("--image", "images", type=FILE, multiple=True, help="Image of a GeoJSON file; once for each, in order.")
@click.option("--images", "patterns", multiple=True, metavar="GLOB", help="Of a project, only images with such a name.")
@click.option("--dictionary", "dictionaries", type=FILE, multiple=True, help="Dictionary file, to say which are alike.")
@click.option("--pixel-size-um", type=float, help="µm per full-resolution pixel, where nothing says it.")
@click.option("--serve", is_flag=True, help="Show the page of a project in the browser; it saves into the project.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="For --serve; default: any that is free.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def report(
    sources: tuple[Path, ...],
    output: Path | None,
    images: tuple[Path, ...],
    patterns: tuple[str, ...],
    dictionaries: tuple[Path, ...],
    pixel_size_um: float | None,
    serve: bool,
    port: int,
    as_json: bool,
) -> None:
    """Make one self-contained page of SOURCES.

    SOURCES are a QuPath project, GeoJSON files, or images with a GeoJSON file of the same name beside them. In the page
    concepts are named, merged, coloured, ignored and judged; `conceptseg labels PROJECT import` takes what it exports.

    With --serve, the page runs on this machine alone, under an address that nobody else knows, and writes the project's
    labels itself.
    """
    if output is None and not serve:
        raise click.UsageError("Expected -o FILE.html, --serve, or both.")
    if serve and not (len(sources) == 1 and is_project(sources[0])):
        raise InvalidRequestError("--serve needs one QuPath project: its labels are what the page writes.")
    require_effect("port", when=serve, otherwise="without --serve")
    project = len(sources) == 1 and is_project(sources[0])
    require_effect("patterns", when=project, otherwise="without a QuPath project")
    require_effect("pixel_size_um", when=not project, otherwise="with a QuPath project, which knows its images' pixels")
    if output is not None:
        _require_page(output)
    started = time.perf_counter()
    evidence = _evidence(sources, images=images, patterns=patterns, pixel_size_um=pixel_size_um)
    for path in dictionaries:
        evidence = with_dictionary(evidence, path)
    with progress_bar() as progress:
        document = build(evidence, progress=progress)
    for warning in document.warnings:
        _warn(warning)
    if output is not None:
        write_page(output, document.content)
        _tell(output, evidence, document, seconds=time.perf_counter() - started, as_json=as_json)
    if serve:
        _serve(find_project(sources[0]), evidence, document, patterns=patterns, port=port)


def _require_page(output: Path) -> None:
    if output.suffix.lower() not in (".html", ".htm"):
        raise InvalidRequestError(f"Cannot write a page to {output}: expected a name in .html.")
    require_writable("-o", output)


def _evidence(
    sources: Sequence[Path], *, images: Sequence[Path], patterns: Sequence[str], pixel_size_um: float | None
) -> Evidence:
    if len(sources) == 1 and is_project(sources[0]):
        if images:
            raise InvalidRequestError("--image is for GeoJSON files; a project knows its images.")
        return project_evidence(sources[0], patterns=patterns, warn=_warn)
    if any(is_project(source) for source in sources):
        raise InvalidRequestError("Expected one QuPath project alone, or GeoJSON files and images.")
    return file_evidence(sources, images=images, pixel_size_um=pixel_size_um, warn=_warn)


def _warn(text: str) -> None:
    click.echo(text, err=True)


def _tell(output: Path, evidence: Evidence, document: Document, *, seconds: float, as_json: bool) -> None:
    facts = {"slides": len(evidence.slides), "concepts": len(document.concepts)}
    size = output.stat().st_size
    if as_json:
        click.echo(json.dumps({"files": [str(output)], **facts, "bytes": size, "seconds": round(seconds, 1)}))
    else:
        kinds = ", ".join(f"{count} {kind if count != 1 else kind.removesuffix('s')}" for kind, count in facts.items())
        click.echo(f"Wrote {output}: {kinds}, {size / 1e6:.1f} MB, {seconds:.1f} s")


def _serve(project: Path, evidence: Evidence, document: Document, *, patterns: Sequence[str], port: int) -> None:
    """Show the page until Ctrl+C."""
    file = part_of(project, LABELS_FILE)
    # Labels may have changed since: by this page, by QuPath, by another command.
    labels = ServedLabels(file, review=lambda now: review_of(evidence, document.concepts, labels_of(now)))

    def page(token: str) -> str:
        state = labels.state()
        server = {"token": token, "file": str(file), "version": state["version"]}
        return render({**document.content, "review": state["review"], "server": server})

    actions = {"labels": labels.save, "apply": _applying(project, patterns)}
    server = ReviewServer(page=page, actions=actions, port=port)
    click.echo(f"Open {server.url}\nNames go to {file}. Ctrl+C ends it.")
    try:
        server.serve()
    except KeyboardInterrupt:
        click.echo("Ended.")
    finally:
        server.release()


def _applying(project: Path, patterns: Sequence[str]) -> Action:
    def apply(_: Any) -> dict[str, Any]:
        labels = Labels.load(part_of(project, LABELS_FILE))
        with ProjectProcess(project, write=True) as writer:
            entries = choose(writer.entries(), patterns=patterns)
            warnings = require_closed(project, [entry.slide for entry in entries if entry.slide], force=False)
            if warnings:  # nobody can answer a question here
                raise ProjectError(
                    f"{warnings[0]} Nothing was changed. Close QuPath, or run: conceptseg labels {project.parent} apply"
                )
            done = list(apply_labels(writer, entries, labels, colours=class_colours(project)))
        changes = [item.change for item in done if item.change]
        told = PerFile()
        failed = [told.line(item.entry.name, item.message, what="failed") for item in done if not item.change]
        renamed, joined = sum(change.renamed for change in changes), sum(change.joined for change in changes)
        images = f"{sum(bool(change.changes) for change in changes)} of {len(done)}"
        said = [f"{renamed} annotations renamed, {joined} joined to neighbours. Images changed: {images}."]
        if ambiguous := sum(change.ambiguous for change in changes):
            said.append(
                f"Left as they are, since they were joined from concepts that have different names now: {ambiguous} "
                "annotations. Annotate again to separate them."
            )
        return {"message": " ".join([*said, *failed]), "failed": len(failed)}

    return apply
