"""``conceptseg annotate``."""

from __future__ import annotations

import json
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from conceptseg.cli.options import FILE, concept_options, encoder_options
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import ConceptSegError, InvalidRequestError
from conceptseg.domain.progress import Progress, ReportProgress, report_nothing
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.encoders.registry import default_pixel_size_um
from conceptseg.factorization.library import find_dictionary
from conceptseg.pipeline.segment import segment as segment_region
from conceptseg.pipeline.settings import Method, SegmentSettings
from conceptseg.qupath.batch import Job, Outcome, SegmentRegion, open_slide
from conceptseg.qupath.batch import annotate as annotate_images
from conceptseg.qupath.project.entries import (
    PROJECT_FILE,
    ImageEntry,
    choose,
    entries_of,
    find_project,
    read_document,
    rebased,
)
from conceptseg.qupath.project.labels import LABELS_FILE, Labels
from conceptseg.qupath.project.targets import RERUNS, Rerun, choose_targets
from conceptseg.qupath.running import require_closed
from conceptseg.qupath.writer_process import ProjectProcess

_DEFAULTS = SegmentSettings()


@click.command()
@click.argument("project", type=FILE, required=False)
@click.argument("slides", type=FILE, nargs=-1)
@click.option("--create-project", type=FILE, help="Make a new project of SLIDES in this folder, and annotate it.")
@click.option("--images", multiple=True, metavar="GLOB", help="Only images with such a name, e.g. '*.svs'.")
@click.option("--ids", multiple=True, metavar="NUMBER", help="Only images with this number (folder in data/).")
@click.option("--within", metavar="CLASS", help="Only inside annotations of this class; results go into them.")
@click.option("--tissue", "area", flag_value="tissue", default=True, help="All tissue of the image. [default]")
@click.option("--whole-image", "area", flag_value="whole", help="The whole image with its background.")
@encoder_options
@concept_options
@click.option(
    "--rerun",
    type=click.Choice(RERUNS),
    default="replace",
    show_default=True,
    help="What becomes of earlier ConceptSeg results in the same place: replace, add to them, or skip the image.",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
@click.option("--rebase", type=(str, FILE), metavar="OLD NEW", help="Slides were moved from folder OLD to NEW.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option(
    "--force", is_flag=True, help="Write although a QuPath has the project open, or another computer its lock."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line for every event.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def annotate(
    project: Path | None,
    slides: tuple[Path, ...],
    create_project: Path | None,
    images: tuple[str, ...],
    ids: tuple[str, ...],
    within: str | None,
    area: str,
    encoder: str,
    weights: Path | None,
    device: str,
    pixel_size_um: float | None,
    dictionary: str | None,
    k: int | None,
    method: Method,
    min_area_um2: float,
    min_hole_area_um2: float,
    tolerance_px: float,
    seed: int,
    rerun: Rerun,
    resume: bool,
    rebase: tuple[str, Path] | None,
    dry_run: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Segment every image of a QuPath project, and write the results into it.

    PROJECT is a project.qpproj or its folder. Exit code 0 only if every image was done.
    """
    say = _Voice(as_json=as_json, quiet=quiet)
    settings = SegmentSettings(
        method=method,
        n_concepts=k or _DEFAULTS.n_concepts,
        seed=seed,
        whole_region=area == "whole",
        min_area_um2=min_area_um2,
        min_hole_area_um2=min_hole_area_um2,
        tolerance_px=tolerance_px,
    )
    concepts = None
    if method != "learned":
        concepts = find_dictionary(encoder=encoder, name=dictionary, k=None if method == "matched" else k)
    job = Job(
        encoder=encoder,
        dictionary=concepts.identifier if concepts else None,
        pixel_size_um=concepts.pixel_size_um if concepts else default_pixel_size_um(encoder),
        image_pixel_size_um=pixel_size_um,
        settings=settings,
        within=within,
        rerun=rerun,
    )
    missing = 0
    if create_project is not None:
        if resume or dry_run or rebase:
            raise InvalidRequestError("--create-project cannot go with --resume, --dry-run or --rebase.")
        project, missing = _create(create_project, [path for path in (project, *slides) if path], say)
    elif project is None or slides:
        raise click.UsageError("Expected one PROJECT, or --create-project FOLDER and slides.")
    project = find_project(project)
    if dry_run:
        return _plan(project, job, images, ids, rebase, say)
    labels = Labels.load(project.parent / LABELS_FILE)
    run = str(uuid.uuid4())
    with ProjectProcess(project, write=True, force=force) as writer:
        # QuPath and the encoder start side by side.
        loaded = load_encoder(encoder, device=device, weights=weights)
        if rebase:
            moved = writer.rebase(old=rebase[0], new=rebase[1])
            say.line(f"{moved} slides are now looked for in {rebase[1]}.", event="rebased", images=moved)
        entries = choose(writer.entries(), patterns=images, identifiers=ids)
        for warning in require_closed(project, [entry.slide for entry in entries if entry.slide], force=force):
            say.error(warning)
        done_before: dict[str, Any] = {}
        if resume:
            past = writer.resume_run(settings=job.as_json())
            run, done_before = past.run, past.done
        else:
            writer.start_run(run=run, settings=job.as_json())
        with say.progress(len(entries)) as (started, progress, finished):
            outcomes = []
            for outcome in annotate_images(
                writer,
                entries,
                job=job,
                run=run,
                labels=labels,
                segment=_segmenter(loaded, concepts, settings),
                done_before=done_before,
                started=started,
                progress=progress,
            ):
                outcomes.append(outcome)
                finished(outcome)
    say.table(outcomes, run=run)
    return 0 if _is_complete(outcomes) and not missing else 1


def _segmenter(encoder: Encoder, dictionary: ConceptDictionary | None, settings: SegmentSettings) -> SegmentRegion:
    return partial(segment_region, encoder=encoder, dictionary=dictionary, settings=settings)


def _create(folder: Path, slides: Sequence[Path], say: _Voice) -> tuple[Path, int]:
    """Create a project; return it, and how many slides are not in it."""
    if not slides:
        raise click.UsageError("--create-project needs slides.")
    for slide in slides:
        if not slide.is_file():
            raise InvalidRequestError(f"There is no slide {slide}. Nothing was created.")
    with ProjectProcess(folder / PROJECT_FILE, write=False) as creator:
        failed = creator.create(slides)
    for slide, reason in failed.items():
        say.error(f"{slide} is not in the project: {reason}")
    count = len(slides) - len(failed)
    say.line(f"Created {folder / PROJECT_FILE} with {count} images.", event="created", images=count)
    return folder, len(failed)


def _plan(
    project: Path,
    job: Job,
    images: Sequence[str],
    ids: Sequence[str],
    rebase: tuple[str, Path] | None,
    say: _Voice,
) -> int:
    """Say what would be done."""
    document = read_document(project)
    if rebase:
        document, moved = rebased(document, old=rebase[0], new=rebase[1])
        say.line(f"{moved} slides would be looked for in {rebase[1]}.", event="rebased", images=moved)
    failed = 0
    with ProjectProcess(project, write=False) as reader:
        for entry in choose(entries_of(document), patterns=images, identifiers=ids):
            try:
                open_slide(entry).close()
                targets, skipped = choose_targets(reader.contents(entry.identifier), within=job.within, rerun=job.rerun)
            except ConceptSegError as error:
                failed += 1
                say.line(f"{entry.name}: cannot be done. {error}", event="plan", image=entry.name, error=str(error))
                continue
            regions, replaced = len(targets), sum(len(target.replaces) for target in targets)
            say.line(
                f"{entry.name}: {regions} regions to segment, {replaced} earlier results to replace, {skipped} to skip",
                event="plan",
                image=entry.name,
                regions=regions,
                replace=replaced,
                skip=skipped,
            )
    return 1 if failed else 0


def _is_complete(outcomes: Sequence[Outcome]) -> bool:
    # Not one annotation of the class in all images is a misspelt class, and no success.
    return all(outcome.is_good for outcome in outcomes) and not all(outcome.state == "empty" for outcome in outcomes)


class _Voice:
    """Says what happens: to people, or to programs as one JSON object per line."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._as_json = as_json
        self._quiet = quiet

    def line(self, text: str, *, event: str, **facts: object) -> None:
        if self._as_json:
            click.echo(json.dumps({"event": event, **facts}, ensure_ascii=False))
        elif not self._quiet:
            click.echo(text)

    def error(self, text: str) -> None:
        if self._as_json:
            click.echo(json.dumps({"event": "warning", "message": text}, ensure_ascii=False))
        click.echo(text, err=True)

    @contextmanager
    def progress(
        self, total: int
    ) -> Iterator[tuple[Callable[[ImageEntry], None], ReportProgress, Callable[[Outcome], None]]]:
        """Bars for all images and for the current one; yields what to tell when."""
        if self._quiet or self._as_json or not sys.stderr.isatty():
            yield self._started, report_nothing, self._finished
            return
        columns = (TextColumn("{task.description:>20.20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            overall, current = bars.add_task("images", total=total), bars.add_task("", total=1)

            def started(entry: ImageEntry) -> None:
                bars.reset(current, description=entry.name, total=1)

            def progress(step: Progress) -> None:
                bars.update(current, completed=step.done, total=step.total)

            def finished(outcome: Outcome) -> None:
                bars.advance(overall)
                self._finished(outcome)

            yield started, progress, finished

    def _started(self, entry: ImageEntry) -> None:
        if self._as_json:
            self.line("", event="started", image=entry.name, id=entry.identifier)

    def _finished(self, outcome: Outcome) -> None:
        if outcome.state == "failed" and not self._as_json:
            click.echo(f"{outcome.entry.name}: failed. {outcome.message}", err=True)
        elif self._as_json:
            self.line("", event="finished", **_facts(outcome))

    def table(self, outcomes: Sequence[Outcome], *, run: str) -> None:
        counts: Counter[str] = Counter(outcome.state for outcome in outcomes)
        if self._as_json:
            self.line("", event="summary", run=run, images=len(outcomes), **counts)
            return
        if self._quiet:
            return
        table = Table()
        for column in ("Image", "Result"):
            table.add_column(column)
        for column in ("Polygons", "Replaced", "Segmenting s", "Writing s"):
            table.add_column(column, justify="right")
        for outcome in outcomes:
            table.add_row(
                outcome.entry.name,
                outcome.state,
                str(outcome.polygons),
                str(outcome.replaced),
                f"{outcome.segment_seconds:.1f}",
                f"{outcome.write_seconds:.1f}",
            )
        Console(highlight=False).print(table)
        click.echo(", ".join(f"{count} {state}" for state, count in counts.items()))


def _facts(outcome: Outcome) -> dict[str, object]:
    return {
        "image": outcome.entry.name,
        "id": outcome.entry.identifier,
        "state": outcome.state,
        "message": outcome.message,
        "polygons": outcome.polygons,
        "replaced": outcome.replaced,
        "segment_seconds": round(outcome.segment_seconds, 3),
        "write_seconds": round(outcome.write_seconds, 3),
    }
