"""Kills parts of ``conceptseg annotate`` at random moments, resumes it, and compares with a run nobody disturbed.

Run by hand on a machine with QuPath: ``python tests/benchmarks/faults.py --kills 25 --json faults.json``. Every target
is killed (-9) so many times: the command, its writer (with QuPath's Java machine inside), both at once, the server that
segments, a worker of Ray. A project of real tissue in which somebody drew is annotated, killed and resumed until it is
done; then it is compared, and the next copy begins. It ends with code 1 if anything was lost in any of them.

Compared are the results and the class list with those of the undisturbed run, and all that was there before:
annotations, detections, cells and TMA cores with classes, measurements and metadata, the image's properties, and its
workflow.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from common import tissue
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.qupath.project.worlds import MAKE_OBJECTS, run_script

from conceptseg.qupath.locate import find_qupath_installations
from conceptseg.qupath.project.contents import RUN, ImageState
from conceptseg.qupath.project.stage import CLASSES
from conceptseg.qupath.project.verify import OWN_STEPS
from conceptseg.qupath.writer_process import ProjectProcess

IMAGES = 4
SIDE_PX = 400
COMMAND = [sys.executable, "-m", "conceptseg.cli.main"]
ANNOTATE = [*COMMAND, "annotate", "--pixel-size-um", "0.5", "--k", "8", "--force", "--json"]
OPTIONS = {
    "command": (),
    "writer": (),
    "both": (),
    "server": ("--server", "auto"),
    "worker": ("--engine", "ray", "--jobs", "2"),
}
RECOVERY_SECONDS = 60
"""A writer without its command finishes its image, then lets go of the project."""


def main() -> None:
    """Print a line per project and a table of the targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="Of every target.")
    parser.add_argument("--only", choices=OPTIONS, nargs="*", default=list(OPTIONS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if "worker" in arguments.only and importlib.util.find_spec("ray") is None:
        parser.error("Target worker needs Ray: pip install 'conceptseg[ray]', or name the others with --only.")
    chance = random.Random(arguments.seed)
    print(f"QuPath {find_qupath_installations()[0].version}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CONFIG_HOME"] = str(folder)  # where a server says where it is
        template = make_project(folder)
        drawn = contents(template)
        alone = copied(template, folder / "undisturbed")
        undisturbed(alone, "command")
        expected = contents(alone)
        projects: list[dict[str, Any]] = []
        for target in arguments.only:
            seconds = undisturbed(copied(template, folder / f"undisturbed-{target}"), target)
            print(f"{target}: {seconds:.1f} s undisturbed", flush=True)
            left = arguments.kills
            while left:
                project = copied(template, folder / f"project-{len(projects)}")
                moments, seconds = disturb(project, target, most=left, within=seconds, chance=chance)
                left -= len(moments)
                outcome = compare(contents(project), expected, drawn)
                projects.append({"target": target, "killed_after_seconds": moments, "outcome": outcome})
                print(json.dumps(projects[-1]), flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(projects, indent=1))
                shutil.rmtree(project.parent)
    for target in arguments.only:
        mine = [project for project in projects if project["target"] == target]
        kills = sum(len(project["killed_after_seconds"]) for project in mine)
        equal = sum(project["outcome"] == "equal" for project in mine)
        print(f"{target:>8}  {kills:3} kills  {len(mine):3} projects  {equal:3} equal to the undisturbed one")
    sys.exit(any(project["outcome"] != "equal" for project in projects))


def make_project(folder: Path) -> Path:
    """A project of real tissue, in which somebody drew."""
    pixels, _ = tissue(SIDE_PX * 2, SIDE_PX * 2)
    slides = []
    for number in range(IMAGES):
        x, y = 83 * number, 59 * number
        slides.append(folder / f"slide-{number}.png")
        Image.fromarray(pixels[y : y + SIDE_PX, x : x + SIDE_PX]).save(slides[-1])
    project = folder / "template" / "project.qpproj"
    with ProjectProcess(project, write=False) as creator:
        assert not creator.create(slides)
    run_script(find_qupath_installations()[0], folder, MAKE_OBJECTS, "--save", "-p", project)
    return project


def copied(project: Path, folder: Path) -> Path:
    """The same project in another folder; its slides stay where they are."""
    return Path(shutil.copytree(project.parent, folder)) / project.name


def annotate(project: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the command; what it says goes to a file beside the project's folder."""
    with project.parent.with_suffix(".log").open("wb") as log:
        return subprocess.Popen([*ANNOTATE, project, *options], stdout=log, stderr=log, cwd=project.parent.parent)


def wait_until_it_works(process: subprocess.Popen[bytes]) -> None:
    """Until QuPath and the encoder are there and the first image is begun."""
    log = Path(process.args[len(ANNOTATE)]).parent.with_suffix(".log")
    while '"started"' not in log.read_text() and process.poll() is None:
        time.sleep(0.01)


def undisturbed(project: Path, target: str) -> float:
    """Annotate; seconds since the first image was begun."""
    with serving(target == "server"):
        process = annotate(project, *OPTIONS[target])
        wait_until_it_works(process)
        started = time.perf_counter()
        assert process.wait() == 0
        return time.perf_counter() - started


def disturb(
    project: Path, target: str, *, most: int, within: float, chance: random.Random
) -> tuple[list[float], float]:
    """Annotate, kill and resume until the project is done.

    Returns:
        The moments of at most ``most`` kills, in seconds since the first image was begun, anew after every start.
        None where it was done, or there was nothing to kill, before the moment came. And within how many seconds the
        next kill should come: ``within``, or less if the project was done sooner.
    """
    moments: list[float] = []
    journal = project.parent / ".conceptseg" / "annotate.jsonl"
    failing_since = None
    while True:
        with serving(target == "server") as server:
            options = ["--resume"] if journal.exists() else []
            process = annotate(project, *OPTIONS[target], *options)
            if len(moments) < most:
                wait_until_it_works(process)
                begun = time.perf_counter()
                after = chance.uniform(0, within)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=after)
                if kill(target, process, server):
                    moments.append(round(after, 2))
                    failing_since = None
                elif process.returncode == 0:
                    within = min(within, time.perf_counter() - begun)
            code = process.wait()
        if code == 0:
            return moments, within
        failing_since = failing_since or time.monotonic()
        if time.monotonic() - failing_since > RECOVERY_SECONDS:
            raise RuntimeError(f"Not to be resumed: {project.parent.with_suffix('.log').read_text()}")
        time.sleep(0.5)


@contextmanager
def serving(wanted: bool) -> Iterator[subprocess.Popen[bytes] | None]:
    """A server that is ready, if one is wanted."""
    if not wanted:
        yield None
        return
    server = subprocess.Popen([*COMMAND, "serve"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    assert server.stdout.readline().startswith(b"READY")
    try:
        yield server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def kill(target: str, command: subprocess.Popen[bytes], server: subprocess.Popen[bytes] | None) -> bool:
    """Kill -9 what ``target`` says; whether it was there."""
    if command.poll() is not None:
        return False
    below = psutil.Process(command.pid).children(recursive=True)
    victims = {
        "command": [command.pid],
        "writer": of(below, "spawn_main"),
        "both": [command.pid, *of(below, "spawn_main")],
        "server": [server.pid] if server else [],
        "worker": [*of(below, "ray::_segment_slide"), *of(below, "ray::IDLE")][:1],
    }[target]
    killed = 0
    for victim in victims:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed += 1
    return killed > 0


def of(processes: list[psutil.Process], word: str) -> list[int]:
    """Those with ``word`` in their command line."""
    found = []
    for process in processes:
        try:
            if word in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a project holds.

    Attributes:
        features: Image -> id -> object as QuPath exports it.
        states: Image -> all of it.
        classes: The names in the project's list.
    """

    features: dict[str, dict[str, Any]]
    states: dict[str, ImageState]
    classes: set[str]


def contents(project: Path) -> Contents:
    """All that a project holds now."""
    features, states = {}, {}
    with ProjectProcess(project, write=False) as reader, tempfile.TemporaryDirectory() as folder:
        for entry in reader.entries():
            file = Path(folder) / f"{entry.identifier}.geojson"
            reader.export_geojson(entry.identifier, file)
            features[entry.identifier] = {item["id"]: item for item in json.loads(file.read_text())["features"]}
            states[entry.identifier] = reader.state(entry.identifier)
    listed = json.loads((project.parent / CLASSES).read_text())["pathClasses"]
    return Contents(features=features, states=states, classes={item["name"] for item in listed})


def compare(found: Contents, expected: Contents, drawn: Contents) -> str:
    """``equal``, or what is wrong."""
    if found.classes != expected.classes:
        return f"other classes: {sorted(found.classes ^ expected.classes)}"
    for image, before in drawn.states.items():
        now = found.states[image]
        for identifier, item in before.objects.items():
            same = now.objects.get(identifier) == item
            if not same or found.features[image].get(identifier) != drawn.features[image][identifier]:
                return f"image {image}: {item.kind} {identifier} that was there before is not as it was"
        if now.facts != before.facts:
            return f"image {image}: {now.facts} instead of {before.facts}"
        if foreign_steps(now) != foreign_steps(before):
            return f"image {image}: the workflow is {foreign_steps(now)} instead of {foreign_steps(before)}"
        if results(found.features[image]) != results(expected.features[image]):
            return f"image {image}: other results"
        runs = {run for feature in found.features[image].values() if (run := run_of(feature))}
        if len(runs) != 1:
            return f"image {image}: results of {len(runs)} runs"
    return "equal"


def foreign_steps(state: ImageState) -> list[str]:
    """The steps of a workflow that QuPath does not add by itself."""
    return [f"{step.name} {step.content}" for step in state.steps if step.name not in OWN_STEPS]


def results(features: dict[str, Any]) -> list[str]:
    """What a run made, without what names the run."""
    return sorted(
        json.dumps([f["geometry"], f["properties"]["classification"], f["properties"]["measurements"]])
        for f in features.values()
        if run_of(f)
    )


def run_of(feature: dict[str, Any]) -> str | None:
    """The run that made an object."""
    return feature["properties"].get("metadata", {}).get(RUN)


if __name__ == "__main__":
    main()
