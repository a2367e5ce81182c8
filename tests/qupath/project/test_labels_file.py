"""Several programs that change the labels of one project at once."""

import json
import shutil
import subprocess
import sys
import threading

import pytest

from conceptseg.domain.errors import InvalidRequestError, OutputError, ProjectError
from conceptseg.qupath.project import labels_file
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.labels_file import update_labels

WRITER = """
import sys
from pathlib import Path
from conceptseg.qupath.project.labels_file import update_labels
first = int(sys.argv[2])
for concept in range(first, first + 50):
    update_labels(Path(sys.argv[1]), lambda labels: labels.named("d", [concept], f"Class {concept}"))
"""


def test_programs_and_threads_lose_nothing(tmp_path):
    file = tmp_path / "conceptseg-labels.json"
    programs = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(first)]) for first in (0, 50)]
    threads = [
        threading.Thread(
            target=lambda first=first: [
                update_labels(file, lambda labels, c=c: labels.named("d", [c], f"Class {c}"))
                for c in range(first, first + 50)
            ]
        )
        for first in (100, 150)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [program.wait() for program in programs] == [0, 0]
    assert sorted(Labels.load(file).of("d")) == list(range(200))


def test_a_change_that_fails_leaves_the_file_and_lets_the_next_one_in(tmp_path):
    file = tmp_path / "conceptseg-labels.json"
    update_labels(file, lambda labels: labels.named("d", [1], "Tumor"))
    before = file.read_bytes()
    with pytest.raises(InvalidRequestError, match="sub-class"):
        update_labels(file, lambda labels: labels.named("d", [2], "a:b"))
    assert file.read_bytes() == before
    update_labels(file, lambda labels: labels.named("d", [2], "Fat"))
    assert set(Labels.load(file).of("d")) == {1, 2}


PYTHON_HOLDS = """
import sys
from pathlib import Path
from conceptseg.qupath.project.labels_file import update_labels
def hold(labels):
    print(flush=True)
    sys.stdin.read()
    return labels
update_labels(Path(sys.argv[1]), hold)
"""

JAVA_HOLDS = """
import java.nio.channels.FileChannel;
import java.nio.file.*;
class Hold {
    public static void main(String[] args) throws Exception {
        Path file = Path.of(args[0]);
        Path lock = file.resolveSibling("." + file.getFileName() + ".lock");
        try (var channel = FileChannel.open(lock, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
                var held = channel.lock(1L << 30, 1, false)) {
            System.out.println();
            System.in.read();
        }
    }
}
"""


@pytest.mark.parametrize("language", ["python", "java"])
def test_a_program_that_holds_the_labels_for_long_is_named(tmp_path, monkeypatch, language):
    """In Java as `ProjectLabels` does it: both know each other's locks."""
    file = tmp_path / "conceptseg-labels.json"
    command = [sys.executable, "-c", PYTHON_HOLDS]
    if language == "java":
        if not shutil.which("javac"):
            pytest.skip("no JDK (javac)")
        (tmp_path / "Hold.java").write_text(JAVA_HOLDS)
        command = ["java", str(tmp_path / "Hold.java")]
    monkeypatch.setattr(labels_file, "_PATIENCE_SECONDS", 0.0)
    with subprocess.Popen([*command, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(ProjectError, match=r"conceptseg-labels\.json"):
            update_labels(file, lambda labels: labels.named("d", [1], "Tumor"))
        assert not file.exists()
        holder.stdin.close()
    update_labels(file, lambda labels: labels.named("d", [1], "Tumor"))
    assert file.exists()


def test_without_locks_of_files_labels_are_written_all_the_same(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(labels_file, "_lock", unsupported)
    update_labels(tmp_path / "labels.json", lambda labels: labels.named("d", [1], "Tumor"))
    assert json.loads((tmp_path / "labels.json").read_text())["dictionaries"]["d"]


def test_a_link_in_place_of_the_lock_makes_no_file_elsewhere(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".labels.json.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is no link"):
        update_labels(tmp_path / "project" / "labels.json", lambda labels: labels.named("d", [1], "Tumor"))
    assert not (tmp_path / "elsewhere").exists()
