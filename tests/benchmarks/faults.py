"""Kills ``conceptseg annotate`` at random moments, resumes it, and compares with a run that nobody disturbed.

Run by hand on a machine with QuPath: ``python tests/benchmarks/faults.py --runs 25 --json faults.json``. Every run has
a copy of a project of real tissue in which somebody drew; what is killed (-9) is in turn the command, its writer (with
QuPath's Java machine inside), or both. It ends with code 1 if anything was lost in any run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from common import tissue
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.qupath.project.worlds import MAKE_OBJECTS, run_script

from conceptseg.qupath.locate import find_qupath_installations
from conceptseg.qupath.project.contents import RUN
from conceptseg.qupath.writer_process import ProjectProcess

IMAGES = 4
SIDE_PX = 400
ANNOTATE = [sys.executable, "-m", "conceptseg.cli.main", "annotate", "--pixel-size-um", "0.5", "--k", "8", "--force"]
TARGETS = ("command", "writer", "both")


def main() -> None:
    """Print a line per run and a table per target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = make_project(folder)
        drawn = objects(template)
        undisturbed = copied(template, folder / "undisturbed")
        process = annotate(undisturbed)
        wait_until_it_works(undisturbed, process)
        started = time.perf_counter()
        assert process.wait() == 0
        seconds = time.perf_counter() - started
        expected = objects(undisturbed)
        print(f"undisturbed: {seconds:.1f} s, {sum(map(len, expected.values()))} objects", flush=True)
        runs = []
        for number in range(arguments.runs):
            target, after = TARGETS[number % len(TARGETS)], chance.uniform(0, 1) * seconds
            while True:
                project = copied(template, folder / f"run-{number}")
                run = {"target": target, "after_seconds": round(after, 2), **disturb(project, target, after)}
                if run["killed_with"] != 0:
                    break
                shutil.rmtree(project.parent)  # it was done before: nothing was disturbed
                after /= 2
            run["outcome"] = compare(objects(project), expected, drawn)
            runs.append(run)
            print(json.dumps(run), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(runs, indent=1))
            shutil.rmtree(project.parent)
    table = Counter((run["target"], run["outcome"]) for run in runs)
    for (target, outcome), count in sorted(table.items()):
        print(f"{target:>8}  {count:3} runs  {outcome}")
    sys.exit(any(run["outcome"] != "equal" for run in runs))


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
    """Start the command."""
    log = project.parent.with_suffix(".log").open("ab")
    return subprocess.Popen([*ANNOTATE, project, *options], stdout=log, stderr=log)


def wait_until_it_works(project: Path, process: subprocess.Popen[bytes]) -> None:
    """Until QuPath and the encoder are there and the first image is begun."""
    journal = project.parent / ".conceptseg" / "annotate.jsonl"
    while not journal.exists() and process.poll() is None:
        time.sleep(0.01)


def disturb(project: Path, target: str, after: float) -> dict[str, Any]:
    """Kill ``target`` so many seconds after the work began, then resume; what had been done, and the last exit code."""
    process = annotate(project)
    wait_until_it_works(project, process)
    time.sleep(after)
    victims = [process.pid] if target != "writer" else []
    if target != "command":
        children = psutil.Process(process.pid).children() if process.poll() is None else []
        victims += [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]
    for victim in victims:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
    first = process.wait()
    journal = project.parent / ".conceptseg" / "annotate.jsonl"
    done = journal.read_text().count('"done"') if journal.exists() else 0
    until = time.monotonic() + 60  # a writer without its command finishes its image, then lets go of the project
    options = ["--resume"] if journal.exists() else []
    while (code := annotate(project, *options).wait()) and time.monotonic() < until:
        time.sleep(1)
    return {"killed_with": first, "images_done": done, "resumed_with": code}


def objects(project: Path) -> dict[str, dict[str, Any]]:
    """Every object of every image as QuPath exports it, by id."""
    found = {}
    with ProjectProcess(project, write=False) as reader, tempfile.TemporaryDirectory() as folder:
        for entry in reader.entries():
            file = Path(folder) / f"{entry.identifier}.geojson"
            reader.export_geojson(entry.identifier, file)
            found[entry.identifier] = {item["id"]: item for item in json.loads(file.read_text())["features"]}
    return found


def compare(found: dict[str, Any], expected: dict[str, Any], drawn: dict[str, Any]) -> str:
    """``equal``, or what is wrong."""
    for image, before in drawn.items():
        for identifier, feature in before.items():
            if found[image].get(identifier) != feature:
                return f"image {image}: object {identifier} that was there before is not as it was"
        if results(found[image]) != results(expected[image]):
            return f"image {image}: other results"
        runs = {run for feature in found[image].values() if (run := run_of(feature))}
        if len(runs) != 1:
            return f"image {image}: results of {len(runs)} runs"
    return "equal"


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
