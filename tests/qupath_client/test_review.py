"""A review in QuPath without a window: order, verdicts, reassigning, and what naming makes of them."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from qupath_window import install_extension, isolated

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

pytestmark = pytest.mark.qupath
SCRIPT = Path(__file__).with_name("review.groovy")


@pytest.fixture(scope="module", params=find_qupath_installations(), ids=lambda found: found.version)
def said(request: pytest.FixtureRequest, jar: Path, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the script said, by its keys."""
    installation: QuPathInstallation = request.param
    folder = tmp_path_factory.mktemp("review")
    environment = isolated(folder)
    install_extension(jar, environment)
    command = [str(installation.launcher), "script", "-i", str(image), str(SCRIPT)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    lines = (re.fullmatch(r"([A-Z ]+) (\S.*)", line) for line in done.stdout.splitlines())
    return {line[1]: json.loads(line[2]) for line in lines if line and line[2][0] in '[{"0123456789nt'}


def test_concepts_are_listed_by_dictionary_and_number(said: dict[str, Any]) -> None:
    assert said["CONCEPTS"] == [
        ["one", [0], "Concept 00", 4],
        ["one", [1], "Concept 01", 1],
        ["one", [2], "Concept 02", 1],
        ["two", [0], "Concept 00", 1],
    ]


def test_the_least_pure_comes_first_then_the_largest_and_last_what_has_no_purity(said: dict[str, Any]) -> None:
    assert said["ORDER"] == ["b", "a", "small", "c"]
    assert said["NEXT"] == ["b", "a", "small", "c", "b"]
    assert said["PREVIOUS"] == ["c", "small", "a", "b", "c"]


def test_a_verdict_is_recorded_filtered_by_and_taken_back(said: dict[str, Any]) -> None:
    accepted = ["Concept 00", "0", None, "accepted"]
    assert said["ACCEPTED"] == [2, accepted, accepted, {}]
    assert said["AGAIN"] == 0
    assert said["OPEN"] == ["small", "c", "small", "c", "small"]
    assert said["NONE"] is None
    assert said["REJECTED"] == [1, ["Concept 00", "0", None, "rejected"], True]
    assert said["CLEARED"] == [1, ["Concept 00", "0", None, None], False]


def test_a_reassigned_annotation_counts_as_its_new_concept(said: dict[str, Any]) -> None:
    # The rejection was of the concept that it no longer has; d has concept 1 already.
    assert said["REASSIGNED"] == [1, ["Concept 01", "0", "1", None], False, ["Concept 01", "1", None, None]]
    assert said["COUNTS"][:2] == [[3, 2, 1, 0, 0], [2, 1, 0, 0, 1]]
    assert said["SUMMARY"] == {"Concept 00": "0", "Concept 01": "1", "Concept 02": "2"}
    assert said["BACK"] == [1, ["Concept 00", "0", None, None]]


def test_every_change_is_one_event(said: dict[str, Any]) -> None:
    assert said["EVENTS"] == 6  # and nothing where nothing changed


def test_what_cannot_be_done_is_told_and_changes_nothing(said: dict[str, Any]) -> None:
    assert said["NO RESULTS"] == "Select annotations that ConceptSeg made. Nothing was changed."
    assert said["UNKNOWN"].startswith("There is no concept 9 of one in this image, and it has no name in the project")
    assert said["SEVERAL"].startswith("These annotations belong to several dictionaries (one, two).")


def test_naming_goes_by_what_a_concept_is_now_and_joins_no_corrected_outline(said: dict[str, Any]) -> None:
    # a and b are accepted, of one concept; c and d are not, and touch; e was reassigned from 2 to 1.
    assert said["NAMED"] == [
        ["Tumor", 0, 100, "0", "accepted"],
        ["Tumor", 100, 100, "0", "accepted"],
        ["Tumor", 200, 200, "0,1", None],
        ["Tumor", 400, 100, "2", None],
        ["Tumor", 600, 50, "0", None],
        ["Concept 00", 800, 100, "0", None],
    ]
