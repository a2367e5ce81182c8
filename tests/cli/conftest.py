import json
from functools import partial
from pathlib import Path

import pytest
import shapely
from shapely import box
from tests.qupath.project import fake
from tests.report.tissue import tissue_file

from conceptseg.qupath.run import annotate_project
from conceptseg.qupath.writer_process import ProjectProcess


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one image with results of two concepts, in the QuPath of the tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # for the process that reads the project
    monkeypatch.setattr("conceptseg.qupath.running.running_qupaths", lambda: iter(()))
    annotate_there = partial(annotate_project, backend=fake.FakeBackend)
    monkeypatch.setattr("conceptseg.cli.annotate.annotate_project", annotate_there)
    for module in ("annotate", "report_sources", "report", "labels", "corrections", "export"):
        process = partial(ProjectProcess, backend=fake.FakeBackend)
        monkeypatch.setattr(f"conceptseg.cli.{module}.ProjectProcess", process)
    project = fake.make_project(tmp_path / "Study", images=1)
    tissue_file(project.parent, "slide-1.png")
    objects = [
        {
            "id": f"00000000-0000-0000-0000-{k:012d}",
            "parent": None,
            "class": f"Concept {k:02d}",
            "run": "run-1",
            "dictionary": "default-k8",
            "concepts": [k],
            "wkb": shapely.to_wkb(box(200 * k, 0, 200 * k + 200, 400)).hex(),
            "measurements": {"Area µm^2": 20_000.0, "Mean activation": 0.5, "Concept purity": 0.7},
        }
        for k in range(2)
    ]
    (project.parent / "data" / "1" / "data.qpdata").write_text(json.dumps({"objects": objects}))
    return project
