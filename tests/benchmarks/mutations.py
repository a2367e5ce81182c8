"""Damages files that ConceptSeg reads, and counts what ends in anything but a result or a sentence.

Run by hand: ``python tests/benchmarks/mutations.py --count 20000 --seed 0``. Each of the files (journal, labels, class
list, project, dictionary, GeoJSON) is damaged anew, in its bytes or in the values that it holds, and given to one of
the commands and calls that read it. It ends with code 1 if any of them left a traceback. No QuPath is needed: that of
the tests is used.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import shapely
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.qupath.project import fake

from conceptseg.cli.main import main as conceptseg
from conceptseg.cli.report_sources import file_evidence, project_evidence
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import ConceptSegError, ImageError
from conceptseg.factorization.dictionary_file import save_dictionary
from conceptseg.pipeline.batch import Job, ProjectRun
from conceptseg.qupath.geojson import read_geojson_roi
from conceptseg.qupath.project.classes import class_colours, require_sound_classes
from conceptseg.qupath.project.journal import Journal
from conceptseg.qupath.project.labels import LABELS_FILE, Labels
from conceptseg.qupath.project.stage import CLASSES
from conceptseg.qupath.project.writer import JOURNAL, OWN_FOLDER, ProjectReader, ProjectWriter
from conceptseg.qupath.results_file import read_results
from conceptseg.qupath.run import annotate_in_threads
from conceptseg.rpc.convert import dictionary_to_proto
from conceptseg.rpc.requests import dictionary_from_bytes

JOB = Job(encoder="default", dictionary="demo-k2", pixel_size_um=0.5, image_pixel_size_um=0.5)
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        7,
        255,
        256,
        65536,
        2**31,
        2**63 - 1,
        0.5,
        -0.0,
        1e300,
        "",
        " ",
        "7",
        "-1",
        "007",
        "x",
    ),
    *(
        "",
        " ",
        "7",
        "-1",
        "007",
        "x",
        "a:b",
        "a\nb",
        "\u2028",
        "٣",
        "../../x",
        "/etc",
        "file:/etc/passwd",
        "file://[",
        "http://x/y",
    ),
    *("\0", "🙂" * 300),
    *([], {}, [[]], [1, 2, 3], [None], {"": None}, {"name": 7}, {"uri": "file:/x"}, ["--series"], ["--series", "x"]),
]
"""What takes the place of a value in a document."""
RAW = {
    "@infinite": b"1e999",
    "@none": b"NaN",
    "@long": b"9" * 400,
    "@longer": b"9" * 5000,
    "@wide": b"18446744073709551616",
    "@half": b'"\\ud800"',
    "@nested": b"[" * 90 + b"]" * 90,
    "@deep": b"[" * 450 + b"]" * 450,
    "@named": b'{"a":' * 450 + b"1" + b"}" * 450,
    "@endless": b"[" * 50_000 + b"]" * 50_000,
}
"""The same, of what Python's JSON does not write: a name, and what stands in its place in the end."""
TOKENS = [
    *(
        b"null",
        b"{}",
        b"[]",
        b'"',
        b"\\",
        b",",
        b"}",
        b"]",
        b"\n",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(
        b"\xef\xbb\xbf",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 400,
        b"9" * 5000,
        b'"\\ud800"',
        b"\xe2\x80\xa8",
        b"18446744073709551616",
    ),
    *(b"[" * 50, b"[" * 400, b"[" * 50_000, b'{"a":' * 300, b"[" * 300 + b"]" * 300),
]
"""What is put between the bytes of a file."""

Action = Callable[[Path], object]


def main() -> None:
    """Print a line per kind of file, and every traceback once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="Files to damage, of all kinds together.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    seen = set()
    for kind, trace in mutations(count=arguments.count, seed=arguments.seed):
        tried[kind] += 1
        if trace:
            failed[kind] += 1
            where = trace.rstrip().rpartition("\n  File ")[2]
            if where not in seen:
                seen.add(where)
                print(f"{kind}: {trace}", flush=True)
    for kind, count in tried.items():
        print(f"{kind:>10}  {count:6} files  {failed[kind]:4} tracebacks")
    sys.exit(bool(failed))


def mutations(*, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Damage files and have them read.

    Yields:
        For each of ``count`` files its kind, and the traceback that it left; empty if there was none.
    """
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, ExitStack() as patches:
        for module in ("cli.annotate", "cli.report_sources", "cli.labels", "cli.export", "qupath.run"):
            patches.enter_context(patch(f"conceptseg.{module}.ProjectProcess", _in_this_process))
        patches.enter_context(patch("conceptseg.qupath.running.running_qupaths", list))
        template, work = Path(name) / "template", Path(name) / "work"
        make_template(template)
        kinds = list(FILES)
        for number in range(count):
            kind = kinds[number % len(kinds)]
            file, damaged, actions = FILES[kind]
            shutil.copytree(template, work)
            damaged(work / file, chance)
            yield kind, attempt(chance.choice(actions), work)
            shutil.rmtree(work)


def attempt(action: Action, work: Path) -> str:
    """The traceback that an action leaves; empty for a result or a sentence."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            action(work)
        except ConceptSegError:
            return ""
        except Exception:  # noqa: BLE001 - this is what is counted
            return traceback.format_exc()
    return ""


def make_template(folder: Path) -> None:
    """A project with one file of every kind, none of them damaged."""
    project = fake.make_project(folder, images=2)
    for number in (1, 2):
        Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(folder / f"slide-{number}.png")
    document = json.loads(project.read_text())
    side = {"value": 0.5, "unit": "µm"}
    for image in document["images"]:
        metadata = {"width": 80, "height": 60, "pixelCalibration": {"pixelWidth": side, "pixelHeight": side}}
        image["serverBuilder"] |= {"args": ["--series", "0"], "metadata": metadata}
    project.write_text(json.dumps({"uri": project.as_uri(), "lastID": 2, **document}))
    (folder / "classes.json").write_text(json.dumps({"pathClasses": [{"name": "Tumor", "color": -3670016}]}))
    Labels().named("demo-k2", [0], "Tumor").coloured("demo-k2", [0], (1, 2, 3)).save(folder / LABELS_FILE)
    (folder / OWN_FOLDER).mkdir()
    journal = Journal(folder / OWN_FOLDER / JOURNAL)
    journal.start(run="run-1", settings=JOB.as_json())
    journal.done("1", {"polygons": 2, "replaced": 0})
    journal.writing("2", sha256="ab" * 32)
    concepts = np.random.default_rng(0).random((3, 5), np.float32)
    made = ConceptDictionary(identifier="d", concepts=concepts, encoder="default", pixel_size_um=0.5)
    save_dictionary(folder / "d.safetensors", replace(made, provenance={"method": "k-means"}))
    properties = {
        "objectType": "annotation",
        "classification": {"name": "Tumor", "color": [1, 2, 3]},
        "metadata": {"conceptseg.run": "r", "conceptseg.dictionary": "demo-k2", "conceptseg.concept": "0"},
        "measurements": {"Area µm^2": 2.5},
    }
    geometry = shapely.geometry.mapping(shapely.box(1, 1, 20, 20))
    feature = {"type": "Feature", "id": "1", "geometry": geometry, "properties": properties}
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature, feature]}))


def damage_json(path: Path, chance: random.Random) -> None:
    """Damage a JSON file."""
    content = path.read_bytes()
    if chance.random() < 0.6:
        content = _encoded(_with_damaged_value(json.loads(content), chance), chance)
    else:
        content = _with_damaged_bytes(content, chance)
    path.write_bytes(content)


def damage_lines(path: Path, chance: random.Random) -> None:
    """Damage a file of JSON lines."""
    content = path.read_bytes()
    if chance.random() < 0.6:
        lines = content.splitlines()
        index = chance.randrange(len(lines))
        lines[index] = _encoded(_with_damaged_value(json.loads(lines[index]), chance), chance)
        content = b"\n".join(lines) + b"\n"
    else:
        content = _with_damaged_bytes(content, chance)
    path.write_bytes(content)


def damage_dictionary(path: Path, chance: random.Random) -> None:
    """Damage the metadata of a dictionary, or the file around them."""
    if chance.random() < 0.1:
        path.write_bytes(_with_damaged_bytes(path.read_bytes(), chance))
        return
    with safe_open(path, framework="numpy") as file:
        metadata, concepts = file.metadata(), file.get_tensor("concepts")
    key = chance.choice(sorted(metadata))
    if key in ("classes", "provenance"):
        content = metadata[key].encode()
        if chance.random() < 0.6:
            content = _encoded(_with_damaged_value(json.loads(content), chance), chance)
        else:
            content = _with_damaged_bytes(content, chance)
        metadata[key] = content.decode("utf-8", "replace")
    else:
        metadata[key] = str(chance.choice(VALUES))
    save_file({"concepts": concepts}, path, metadata=metadata)


def annotate(work: Path, *, resume: bool = False) -> None:
    """A run over the project; every slide fails once it is opened."""

    def refuse(*_: object, **__: object) -> None:
        raise ImageError("No encoder is needed here.")

    request = ProjectRun(project=work / "project.qpproj", job=JOB, resume=resume)
    annotate_in_threads(request, segment=refuse)


def run(*arguments: str) -> Action:
    """A command, in the folder of the project."""

    def action(work: Path) -> None:
        words = [str(work) if word == "PROJECT" else word.replace("FOLDER", str(work)) for word in arguments]
        code = conceptseg(words)
        assert code in (0, 1, 2), code

    return action


def evidence(work: Path) -> None:
    """What a report of the project shows."""
    project_evidence(work, patterns=(), warn=print)


def evidence_of_file(work: Path) -> None:
    """What a report of the GeoJSON file shows."""
    file_evidence([work / "a.geojson"], images=[work / "slide-1.png"], pixel_size_um=0.5, warn=print)


def labels_of_class_list(work: Path) -> None:
    """The class list as reports and `labels apply` use it, and before QuPath gets it."""
    project = work / "folder" / "project.qpproj"
    (project.parent / CLASSES).parent.mkdir(parents=True)
    shutil.move(work / "classes.json", project.parent / CLASSES)
    class_colours(project)
    require_sound_classes(project)


def sent_dictionary(work: Path) -> None:
    """A dictionary that a client sends."""
    dictionary_to_proto("d", dictionary_from_bytes((work / "d.safetensors").read_bytes())).SerializeToString()


PROJECT_ACTIONS: list[Action] = [
    evidence,
    annotate,
    run("labels", "PROJECT", "list"),
    run("labels", "PROJECT", "apply"),
    run("export", "PROJECT", "--geojson", "FOLDER/out", "--csv", "FOLDER/out.csv"),
    run("annotate", "PROJECT", "--dry-run"),
]
FILES: dict[str, tuple[str, Callable[[Path, random.Random], None], list[Action]]] = {
    "journal": (
        f"{OWN_FOLDER}/{JOURNAL}",
        damage_lines,
        [evidence, partial(annotate, resume=True), run("labels", "PROJECT", "set", "1", "Stroma")],
    ),
    "labels": (
        LABELS_FILE,
        damage_json,
        [
            evidence,
            annotate,
            run("labels", "PROJECT", "list"),
            run("labels", "PROJECT", "apply"),
            run("labels", "PROJECT", "set", "--dictionary", "demo-k2", "0", "Stroma"),
            run("labels", "PROJECT", "merge", "0", "1", "--into", "Stroma"),
            run("labels", "PROJECT", "colour", "--dictionary", "demo-k2", "0", "1,2,3"),
            run("labels", "PROJECT", "ignore", "--not", "0"),
            run("labels", "PROJECT", "remove", "0"),
            run("labels", "PROJECT", "import", f"FOLDER/{LABELS_FILE}"),
        ],
    ),
    "classes": ("classes.json", damage_json, [labels_of_class_list]),
    "project": ("project.qpproj", damage_json, PROJECT_ACTIONS),
    "dictionary": (
        "d.safetensors",
        damage_dictionary,
        [sent_dictionary, run("concepts", "show", "FOLDER/d.safetensors")],
    ),
    "geojson": (
        "a.geojson",
        damage_json,
        [
            evidence_of_file,
            lambda work: read_results(work / "a.geojson", warn=print),
            lambda work: read_geojson_roi(work / "a.geojson", warn=print),
        ],
    ),
}
"""Kind -> the file, how it is damaged, and what reads it."""


class _in_this_process:  # noqa: N801 - it stands for a function
    """`ProjectProcess` without a process, with the QuPath of the tests."""

    def __new__(cls, project: Path, *, write: bool, force: bool = False, **_: object) -> ProjectReader:
        if write:
            return ProjectWriter(project, backend=fake.FakeBackend(), force=force)
        return ProjectReader(project, backend=fake.FakeBackend())


def _with_damaged_value(document: Any, chance: random.Random) -> Any:
    """The same document with another value, without one, or with another key somewhere."""
    document = copy.deepcopy(document)
    places = list(_places(document))
    if not places or chance.random() < 0.03:
        return _value(chance)
    container, key = chance.choice(places)
    fault = chance.random()
    if fault < 0.75:
        container[key] = _value(chance)
    elif fault < 0.9:
        del container[key]
    elif isinstance(container, dict):
        container[str(chance.choice(VALUES))] = container.pop(key)
    else:
        container.append(container[key])
    return document


def _value(chance: random.Random) -> Any:
    return chance.choice(VALUES if chance.random() < 0.7 else list(RAW))


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index of it."""
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield document, key
        yield from _places(document[key])


def _encoded(document: Any, chance: random.Random) -> bytes:
    content = json.dumps(document, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    for name, raw in RAW.items():
        content = content.replace(f'"{name}"'.encode(), raw)
    return content


def _with_damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.randint(1, 40))
        fault = chance.choice(["token", "token", "flip", "cut", "remove", "repeat"])
        if fault == "token":
            content = content[:start] + chance.choice(TOKENS) + content[start:]
        elif fault == "flip":
            content = content[:start] + chance.randbytes(end - start) + content[end:]
        elif fault == "cut":
            content = content[:start]
        elif fault == "remove":
            content = content[:start] + content[end:]
        else:
            content = content[:end] + content[start:]
    return content


if __name__ == "__main__":
    main()
