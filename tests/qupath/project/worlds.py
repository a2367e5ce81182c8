"""Two places to run the same tests of the project writer in: a QuPath of our own making, and every real one."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from PIL import Image
from tests.qupath.project import fake

from conceptseg.qupath.project.contents import ClassStyle, Outline, Result
from conceptseg.qupath.project.writer import ProjectReader, ProjectWriter
from conceptseg.qupath.writer_process import ProjectProcess

MAKE_OBJECTS = """
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.DefaultTMAGrid
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs
def plane = ImagePlane.getDefaultPlane()
def square = ROIs.createRectangleROI(0, 0, 50, 50, plane)
def mine = PathObjects.createAnnotationObject(square, PathClass.fromString('Tumor'))
mine.setName('drawn by hand')
mine.getMeasurementList().put('Length', 1.5d)
mine.getMetadata().put('Seen by', 'somebody')
def point = PathObjects.createAnnotationObject(ROIs.createPointsROI(5, 5, plane))
def spot = PathObjects.createDetectionObject(ROIs.createEllipseROI(60, 60, 8, 8, plane), PathClass.fromString('Cell'))
spot.getMeasurementList().put('Area', 50.25d)
def nucleus = ROIs.createEllipseROI(22, 22, 4, 4, plane)
def membrane = ROIs.createEllipseROI(20, 20, 8, 8, plane)
def cell = PathObjects.createCellObject(membrane, nucleus, PathClass.fromString('Cell'))
mine.addChildObject(cell)
addObjects([mine, point, spot])
def cores = [100, 150].collect { PathObjects.createTMACoreObject(it, 10, 40, 40, it > 100) }
cores.eachWithIndex { core, i -> core.setName('A-' + (i + 1)) }
getCurrentHierarchy().setTMAGrid(DefaultTMAGrid.create(cores, 2))
getCurrentImageData().setProperty('own', 'property')
getCurrentImageData().getHistoryWorkflow().addStep(new DefaultScriptableWorkflowStep('Mine', [a: 'b'], 'doIt()'))
def project = getProject()
def own = PathClass.fromString('Own', getColorRGB(9, 9, 9))
project.setPathClasses([PathClass.fromString('Tumor', getColorRGB(1, 2, 3)), own])
project.syncChanges()
"""


@dataclass
class FakeWorld:
    """Everything but QuPath."""

    folder: Path
    name = "fake"

    def make_project(self, images=2):
        return fake.make_project(self.folder / "project", images)

    def writer(self, project, **options):
        return ProjectWriter(project, backend=fake.FakeBackend(), **options)

    def reader(self, project):
        return ProjectReader(project, backend=fake.FakeBackend())

    def classes(self, project):
        return json.loads((project.parent / "classifiers" / "classes.json").read_text())


@dataclass
class PaquoWorld:
    """A real QuPath; projects are copied from a template, since starting QuPath takes its time."""

    folder: Path
    template: Path
    name = "QuPath"

    def make_project(self, images=2):
        shutil.copytree(self.template, self.folder / "project")
        return self.folder / "project" / "project.qpproj"

    def writer(self, project, **options):
        return ProjectProcess(project, write=True, **options)

    def reader(self, project):
        return ProjectProcess(project, write=False)

    def classes(self, project):
        listed = json.loads((project.parent / "classifiers" / "classes.json").read_text())["pathClasses"]
        return {item["name"]: [item["color"] >> shift & 0xFF for shift in (16, 8, 0)] for item in listed}


def make_template(qupath, folder):
    """A project of two pictures, in which somebody drew a rectangle, a point and a detection."""
    slides = []
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 256, (200, 300, 3), np.uint8)
        slides.append(folder / f"slide-{number}.png")
        Image.fromarray(pixels).save(slides[-1])
    with ProjectProcess(folder / "project" / "project.qpproj", write=False) as creator:
        assert creator.create(slides) == {}
    run_script(qupath, folder, MAKE_OBJECTS, "--save", "-p", folder / "project" / "project.qpproj")
    return folder / "project"


def run_script(qupath, folder, script, *options):
    """Run a Groovy script in QuPath, without its window and without the user's preferences."""
    path = folder / "script.groovy"
    path.write_text(script, encoding="utf-8")
    environment = os.environ | {"JAVA_TOOL_OPTIONS": f"-Djava.util.prefs.userRoot={folder}"}
    command = [qupath.launcher, "script", *options, path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def result(number, *, parent=None, class_name="Concept 00", concepts=(0,), run="run-1", outline=None, **reviewed):
    """A result and its outline, in a row of squares."""
    outline = outline or shapely.box(10 * number, 100, 10 * number + 10, 110)
    drawn = Result(
        identifier=f"00000000-0000-0000-0000-{number:012d}",
        parent=parent,
        class_name=class_name,
        run=run,
        dictionary="demo-k2",
        found=concepts,
        area_px=outline.area,
        length_px=outline.length,
        **reviewed,
    )
    return drawn, Outline(wkb=shapely.to_wkb(outline), measurements={"Area µm^2": 25.0, "Mean activation": 0.5})


def style(name, colour=(7, 8, 9), chosen=False):
    return ClassStyle(name=name, colour=colour, chosen=chosen)
