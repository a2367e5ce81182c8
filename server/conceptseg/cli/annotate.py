"""``conceptseg annotate``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from conceptseg.cli.options import (
    FILE,
    concept_options,
    encoder_options,
    plane_options,
    require_effect,
    require_effect_of_segmenting,
    server_options,
    tissue_options,
)
from conceptseg.cli.run_report import RunReport
from conceptseg.cli.segmenters import LocalSegmenter, ServerSegmenter
from conceptseg.domain.errors import ConceptSegError, InvalidRequestError
from conceptseg.domain.per_file import PerFile
from conceptseg.encoders.registry import default_pixel_size_um
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.glass import Colour
from conceptseg.imaging.openslide_reader import dicom_slide
from conceptseg.imaging.reader import open_image
from conceptseg.pipeline.batch import RERUNS, Job, ProjectRun, Rerun, RunEvent, is_complete
from conceptseg.pipeline.settings import Method, SegmentSettings
from conceptseg.qupath.engine import Engine, Threads
from conceptseg.qupath.project.entries import (
    PROJECT_FILE,
    choose,
    entries_of,
    find_project,
    read_document,
    read_entries,
    rebased,
    require_rebase,
)
from conceptseg.qupath.project.targets import about_other_classes, choose_targets
from conceptseg.qupath.ray_engine import RayTasks
from conceptseg.qupath.run import annotate_project, moved_together
from conceptseg.qupath.slide import plane_of
from conceptseg.qupath.status import StatusFile
from conceptseg.qupath.writer_process import ProjectProcess

_DEFAULTS = SegmentSettings()


@click.command()
@click.argument("project", type=FILE, required=False)
@click.argument("slides", type=FILE, nargs=-1)
@click.option("--create-project", type=FILE, help="Make a new project of SLIDES in this folder, and annotate it.")
@click.option("--images", multiple=True, metavar="GLOB", help="Only images with such a name, e.g. '*.svs'.")
@click.option("--ids", multiple=True, metavar="NUMBER", help="Only images with this number (folder in data/).")
@click.option(
    "--within",
    metavar="CLASS",
    help="Only inside annotations of this class; results go into them. Inside class Tissue all counts as tissue.",
)
@click.option("--tissue", "area", flag_value="tissue", default=True, help="All tissue of the image. [default]")
@click.option("--whole-image", "area", flag_value="whole", help="The whole image with its background.")
@plane_options
@tissue_options
@encoder_options
@concept_options
@click.option(
    "--rerun",
    type=click.Choice(RERUNS),
    default="replace",
    show_default=True,
    help="What becomes of earlier ConceptSeg results in the same place: replace, add to them, or skip the image.",
)
@server_options
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    help="Images in work at once. Results do not depend on it. [default: 1; with Ray, one per GPU or computer]",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Segment in this process, or in the workers of a Ray cluster (pip install 'conceptseg[ray]').",
)
@click.option("--ray-address", metavar="ADDRESS", help="Of a running Ray cluster. [default: a new one for this run]")
@click.option("--worker-cpus", type=click.FloatRange(0), default=1, show_default=True, help="CPUs per slide, for Ray.")
@click.option("--worker-gpus", type=click.FloatRange(0), help="GPUs per slide, for Ray. [default: all are shared]")
@click.option(
    "--status-file",
    type=FILE,
    help="Keep the state of the run in this JSON file, rewritten after every event. If it is there already, only "
    "images that it does not call done, skipped or resumed are done; delete it to do all.",
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
    z: int | None,
    t: int | None,
    glass_colour: Colour | None,
    tissue_strictness: float,
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
    server: str | None,
    token: str | None,
    tls_certificate: Path | None,
    jobs: int | None,
    engine: str,
    ray_address: str | None,
    worker_cpus: float,
    worker_gpus: float | None,
    status_file: Path | None,
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
    require_effect_of_segmenting(server=server, weights=weights, method=method)
    ray = ("ray_address", "worker_cpus", "worker_gpus")
    require_effect(*ray, when=engine == "ray", otherwise="without --engine ray")
    if within is not None and (z is not None or t is not None):
        raise InvalidRequestError("--z and --t cannot go with --within: every annotation lies on a plane of its own.")
    say = RunReport(as_json=as_json, quiet=quiet)
    settings = SegmentSettings(
        method=method,
        n_concepts=_DEFAULTS.n_concepts if k is None else k,
        seed=seed,
        whole_region=area == "whole",
        min_area_um2=min_area_um2,
        min_hole_area_um2=min_hole_area_um2,
        tolerance_px=tolerance_px,
        glass_colour=glass_colour,
        tissue_strictness=tissue_strictness,
    ).inside(within)
    concepts = None
    default_pixel_size_um(encoder)  # an unknown encoder is no missing dictionary
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
        z=z,
        t=t,
    )
    missing = 0
    if create_project is not None:
        if resume or dry_run or rebase:
            raise InvalidRequestError("--create-project cannot go with --resume, --dry-run or --rebase.")
        project, missing = _create(create_project, [path for path in (project, *slides) if path], say)
    elif project is None or slides:
        raise click.UsageError("Expected one PROJECT, or --create-project FOLDER and slides.")
    project = find_project(project)
    status = StatusFile(status_file, project=project, job=job) if status_file else None
    request = ProjectRun(
        project=project,
        job=job,
        images=images,
        ids=ids,
        only=status.is_missing if status else lambda _: True,
        resume=resume,
        rebase=rebase,
        force=force,
    )
    if dry_run:
        return _plan(request, say)
    with ExitStack() as stack:
        segmenter: LocalSegmenter | ServerSegmenter
        if server is None:
            segmenter = LocalSegmenter(
                encoder=encoder, weights=weights, device=device, dictionary=concepts, settings=settings
            )
        else:
            segmenter = ServerSegmenter(
                endpoint=server,
                token=token,
                tls_certificate=tls_certificate,
                encoder=encoder,
                dictionary=concepts,
                settings=settings,
            )
        chosen: Engine
        if engine == "ray":
            chosen = RayTasks(segmenter, jobs=jobs, address=ray_address, cpus=worker_cpus, gpus=worker_gpus)
        else:
            chosen = Threads(segmenter, jobs=jobs or 1)
        stack.callback(chosen.close)
        tell = [stack.enter_context(say.watch())]
        if status is not None:
            tell.append(stack.enter_context(status))

        def tell_all(event: RunEvent) -> None:
            for listener in tell:
                listener(event)

        # Workers of a cluster load the encoder, this computer may not even be able to.
        prepare = segmenter.prepare if engine == "local" else lambda: None
        outcomes = annotate_project(request, engine=chosen, tell=tell_all, prepare=prepare)
    say.summary(outcomes)
    return 0 if is_complete(outcomes) and not missing else 1


def _create(folder: Path, slides: Sequence[Path], say: RunReport) -> tuple[Path, int]:
    """Create a project; return it, and how many slides are not in it."""
    if not slides:
        raise click.UsageError("--create-project needs slides.")
    slides = [dicom_slide(slide) if slide.is_dir() else slide for slide in slides]
    for slide in slides:
        if not slide.is_file():
            raise InvalidRequestError(f"There is no slide {slide}. Nothing was created.")
    failed = _unreadable(slides)
    readable = [slide for slide in slides if slide not in failed]
    if not readable:
        reasons = " ".join(failed.values())
        raise InvalidRequestError(f"No slide can be read, so there is no project {folder}. {reasons}")
    with ProjectProcess(folder / PROJECT_FILE, write=False) as creator:
        failed |= creator.create(readable)
    told = PerFile()
    for slide, reason in failed.items():
        say.warning(told.line(str(slide), reason, what="not in the project"))
    count = len(slides) - len(failed)
    say.line(f"Created {folder / PROJECT_FILE} with {count} image{'s' * (count != 1)}.", event="created", images=count)
    return folder, len(failed)


def _unreadable(slides: Sequence[Path]) -> dict[Path, str]:
    """Slides that could not be segmented, and why. QuPath may try for minutes to open them, and run out of memory."""
    failed = {}
    for slide in slides:
        try:
            open_image(slide).close()
        except ConceptSegError as error:
            failed[slide] = str(error)
    return failed


def _plan(request: ProjectRun, say: RunReport) -> int:
    """Say what would be done."""
    entries = read_entries(request.project, rebase=request.rebase)
    document, job = read_document(request.project), request.job
    if request.rebase:
        old, new = request.rebase
        require_rebase(document, old=old, new=new)
        document, moved = rebased(document, old=old, new=new)
        say.line(f"{moved} slides would be looked for in {new}.", event="rebased", images=moved)
    failed, told = 0, PerFile()
    chosen = choose(entries, patterns=request.images, identifiers=request.ids)
    for sentence in moved_together(entries_of(document), chosen):
        say.warning(sentence)
    with ProjectProcess(request.project, write=False) as reader:
        for entry in chosen:
            if not request.only(entry.identifier):
                continue
            try:
                plane = plane_of(entry, job)
                contents = reader.contents(entry.identifier)
                targets, skipped = choose_targets(contents, within=job.within, rerun=job.rerun, plane=plane)
            except ConceptSegError as error:
                failed += 1
                line = told.line(entry.name, str(error), what="cannot be done")
                say.line(line, event="plan", image=entry.name, error=str(error))
                continue
            regions, replaced = len(targets), sum(len(target.replaces) for target in targets)
            reviewed = sum(target.reviewed for target in targets)
            say.line(
                f"{entry.name}: {regions} regions to segment, {replaced} earlier results to replace "
                f"({reviewed} of them reviewed by a person), {skipped} to skip",
                event="plan",
                image=entry.name,
                regions=regions,
                replace=replaced,
                reviewed=reviewed,
                skip=skipped,
            )
            if others := about_other_classes(contents, within=job.within):
                say.warning(told.line(entry.name, others))
    return 1 if failed else 0
