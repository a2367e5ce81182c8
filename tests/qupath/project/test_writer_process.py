"""A writer in a process of its own."""

import os
import signal

import pytest
from tests.qupath.project import fake

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.writer_process import ProjectProcess, WriterDiedError


class Confused(fake.FakeBackend):
    """A QuPath that stumbles over the first image in a way that nobody thought of."""

    def contents(self, project):
        if fake.read_document(project)["images"][0]["entryID"] == 1:
            raise RecursionError("too deep")
        return super().contents(project)


class Ending(fake.FakeBackend):
    """A QuPath that takes its process along."""

    def contents(self, project):
        print("the last thing that it said", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        return super().contents(project)


def test_an_error_that_nobody_thought_of_fails_one_image_alone(tmp_path):
    project = fake.make_project(tmp_path / "project")
    with ProjectProcess(project, write=True, backend=Confused) as writer:
        with pytest.raises(ProjectError, match=r"RecursionError: too deep\. Please report this") as error:
            writer.inspect("1")
        assert not isinstance(error.value, WriterDiedError)
        assert writer.inspect("2").object_count == 1


def test_a_process_that_ended_is_explained_on_a_system_without_sigkill(tmp_path, monkeypatch):
    monkeypatch.delattr(signal, "SIGKILL")
    project = fake.make_project(tmp_path / "project")
    with (
        pytest.raises(WriterDiedError, match=r"was killed \(SIGTERM\).*--resume.*the last thing that it said"),
        ProjectProcess(project, write=False, backend=Ending) as reader,
    ):
        reader.contents("1")
