"""What the project writer promises, with and without QuPath."""

import json
import os

import pytest
import shapely
from tests.qupath.project import fake
from tests.qupath.project.worlds import PaquoWorld, result, run_script, style

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.project.contents import Changes
from conceptseg.qupath.project.writer import ProjectWriter
from conceptseg.qupath.project_writer import PaquoBackend
from conceptseg.qupath.writer_process import ProjectProcess

STYLES = (style("Concept 00"), style("Tumor", (255, 255, 255)))


def write(writer, image, *drawn, remove=(), **changes):
    before = writer.inspect(image)
    writer.write(image, Changes(add=drawn, remove=frozenset(remove), styles=STYLES, **changes), name=f"image {image}")
    return before


def exported(reader, image, folder):
    """Every object as its GeoJSON feature, by id."""
    target = folder / f"{image}.geojson"
    reader.export_geojson(image, target)
    return {feature["id"]: feature for feature in json.loads(target.read_text())["features"]}


def test_results_arrive_and_everything_else_stays_as_it_was(world, tmp_path):
    project = world.make_project()
    with world.writer(project) as writer:
        before = exported(writer, "1", tmp_path)
        contents = writer.inspect("1")
        tumor = next(area.identifier for area in contents.areas if area.class_name == "Tumor")
        reviewed = result(4, class_name="Tumor", reassigned=1, review="accepted")
        drawn = [result(1), result(2, class_name="Tumor", concepts=(1,)), result(3, parent=tumor), reviewed]
        write(writer, "1", *drawn)
    with world.reader(project) as reader:
        found = {item.identifier: item for item in reader.contents("1").results}
        outlines = reader.outlines("1")
        after = exported(reader, "1", tmp_path)
    for expected, outline in drawn:
        assert found[expected.identifier] == expected
        assert outlines[expected.identifier].measurements == outline.measurements
    assert {identifier: feature for identifier, feature in after.items() if identifier in before} == before
    assert len(after) == len(before) + 4


def test_an_image_that_nobody_opened_yet_gets_results(world):
    project = world.make_project()
    (project.parent / "data" / "1" / "data.qpdata").unlink()
    with world.writer(project) as writer:
        assert write(writer, "1", result(1)).object_count == 0
        assert [item.identifier for item in writer.contents("1").results] == [result(1)[0].identifier]


def test_a_class_that_the_project_has_keeps_its_colour_and_a_new_one_joins_the_list(world):
    project = world.make_project()
    before = world.classes(project)
    with world.writer(project) as writer:
        write(writer, "1", result(1), result(2, class_name="Tumor"))
    assert world.classes(project) == before | {"Concept 00": [7, 8, 9]}


def test_results_are_removed_by_id_and_what_lies_inside_moves_up(world):
    project = world.make_project()
    with world.writer(project) as writer:
        before = write(writer, "1", result(1), result(2))
        inner = result(3, parent=result(1)[0].identifier)
        write(writer, "1", inner)
        write(writer, "1", remove=[result(1)[0].identifier])
        after = writer.contents("1")
    assert {(item.identifier, item.parent) for item in after.results} == {
        (result(2)[0].identifier, None),
        (inner[0].identifier, None),
    }
    assert after.areas == before.areas


def test_results_get_another_class_and_keep_everything_else(world):
    project = world.make_project()
    with world.writer(project) as writer:
        write(writer, "1", result(1))
        before = writer.outlines("1")
        write(writer, "1", rename={result(1)[0].identifier: "Tumor"})
        (renamed,) = writer.contents("1").results
        assert renamed.class_name == "Tumor"
        assert writer.outlines("1") == before


def test_a_rejected_result_that_is_renamed_stays_rejected_and_grey(qupath, template_of, tmp_path):
    world = PaquoWorld(tmp_path, template_of(qupath))
    project = world.make_project()
    with world.writer(project) as writer:
        write(writer, "1", result(1))
    reject = """
        def result = getAnnotationObjects().find { it.getMetadata().containsKey("conceptseg.run") }
        result.getMetadata().put("conceptseg.review", "rejected")
        result.setColor(128, 128, 128)
    """
    run_script(qupath, tmp_path, reject, "--save", "-p", project, "-i", "slide-1.png")
    with world.writer(project) as writer:
        write(writer, "1", rename={result(1)[0].identifier: "Tumor"})
        (renamed,) = writer.contents("1").results
        feature = exported(writer, "1", tmp_path)[renamed.identifier]
    assert (renamed.class_name, renamed.review) == ("Tumor", "rejected")
    assert feature["properties"]["color"] == [128, 128, 128]


def test_other_images_and_the_project_file_are_not_touched(world):
    project = world.make_project()
    before = fake.files_of(project)
    with world.writer(project) as writer:
        write(writer, "1", result(1))
    after = fake.files_of(project)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"data/1/data.qpdata", "data/1/summary.json", "data/1/server.json", "classifiers/classes.json"}


def test_without_changes_nothing_is_written(world):
    project = world.make_project()
    before = fake.files_of(project)
    with world.writer(project) as writer:
        write(writer, "1")
    assert fake.files_of(project) == before


def test_an_image_that_somebody_saved_meanwhile_is_not_overwritten(world):
    project = world.make_project()
    with world.writer(project) as writer:
        writer.inspect("1")
        data = project.parent / "data" / "1" / "data.qpdata"
        data.write_bytes(data.read_bytes() + b" ")
        before = fake.files_of(project)
        with pytest.raises(ProjectError, match=r"another program saved this image.*--resume"):
            writer.write("1", Changes(add=(result(1),), styles=STYLES), name="image 1")
    assert fake.files_of(project) == before


def test_a_project_that_somebody_changed_meanwhile_is_not_written(world):
    project = world.make_project()
    with world.writer(project) as writer:
        writer.inspect("1")
        project.write_bytes(project.read_bytes() + b"\n")
        before = fake.files_of(project)
        with pytest.raises(ProjectError, match=r"Another program changed .*project\.qpproj"):
            writer.write("1", Changes(add=(result(1),), styles=STYLES), name="image 1")
    assert fake.files_of(project) == before


def test_a_file_that_was_only_touched_has_not_changed(world):
    project = world.make_project()
    with world.writer(project) as writer:
        writer.inspect("1")
        os.utime(project)
        os.utime(project.parent / "data" / "1" / "data.qpdata")
        writer.write("1", Changes(add=(result(1),), styles=STYLES), name="image 1")
        assert len(writer.contents("1").results) == 1


def test_only_one_writer_has_the_project(world):
    project = world.make_project()
    with world.writer(project) as first:
        first.entries()
        with (
            pytest.raises(ProjectError, match=r"Another ConceptSeg process .*process \d+ on"),
            world.writer(project) as second,
        ):
            second.entries()
        first.inspect("1")
    with world.writer(project) as again:
        again.inspect("1")


def test_what_is_replaced_is_kept_as_backup(world):
    project = world.make_project()
    data = project.parent / "data" / "1" / "data.qpdata"
    original = data.read_bytes()
    with world.writer(project) as writer:
        writer.start_run(run="run-1", settings={})
        write(writer, "1", result(1))
        write(writer, "1", result(2))
    assert data.read_bytes() != original
    assert (project.parent / ".conceptseg" / "backup" / "run-1" / "1-data.qpdata").read_bytes() == original


def test_reading_writes_nothing(world, tmp_path):
    project = world.make_project()
    before = {path: path.stat().st_mtime_ns for path in project.parent.rglob("*")}
    with world.reader(project) as reader:
        assert [entry.name for entry in reader.entries()] == ["slide-1.png", "slide-2.png"]
        reader.contents("1")
        exported(reader, "2", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in project.parent.rglob("*")} == before


def test_a_run_is_resumed_where_it_ended(world):
    project = world.make_project()
    with world.writer(project) as writer:
        writer.start_run(run="run-1", settings={"k": 2})
        before = writer.inspect("1")
        writer.write("1", Changes(add=(result(1),), styles=STYLES), name="image 1", report={"polygons": 1})
    with world.writer(project) as writer:
        past = writer.resume_run(settings={"k": 2})
        assert (past.run, past.done) == ("run-1", {"1": {"polygons": 1}})
        assert writer.inspect("1").object_count == before.object_count + 1


def a_cell_gets_another_class(image, objects):
    objects["cell"]["class"] = "Other"


def a_cell_loses_its_measurement(image, objects):
    objects["cell"]["measurements"] = {}


def a_cell_gets_another_measurement(image, objects):
    objects["cell"]["measurements"]["Area"] = 3


def a_cell_moves(image, objects):
    objects["cell"]["wkb"] = shapely.to_wkb(shapely.box(1, 1, 2, 2)).hex()


def a_cell_gets_another_parent(image, objects):
    objects["cell"]["parent"] = None


def a_cell_becomes_another(image, objects):
    objects["cell"]["id"] = "another"


def a_core_gets_another_name(image, objects):
    objects["core"]["name"] = "A-2"


def an_annotation_gets_another_measurement(image, objects):
    objects["mine-1"]["measurements"]["Length"] = 1.6


def an_annotation_gets_other_metadata(image, objects):
    objects["mine-1"]["metadata"] = {"a": "c"}


def a_result_gets_another_measurement(image, objects):
    objects[result(1)[0].identifier]["measurements"]["Area µm^2"] = 1.0


def a_result_gets_another_run(image, objects):
    objects[result(1)[0].identifier]["run"] = "run-2"


def the_workflow_is_dropped(image, objects):
    image["steps"] = []


def a_step_gets_other_parameters(image, objects):
    image["steps"][1][1] = "threshold 0.2"


def a_step_of_qupaths_own_is_dropped(image, objects):
    del image["steps"][0]


def a_property_is_dropped(image, objects):
    image["properties"] = {}


class CarelessQuPath(PaquoBackend):
    """A QuPath that changes something besides what it was asked, each time something else."""

    def __init__(self):
        super().__init__()
        self.spoils = iter(REAL_SPOILT)

    def apply(self, project, changes):
        super().apply(project, changes)
        entry = self._open_project(project, mode="r+").images[0].java_object
        image_data = entry.readImageData()
        hierarchy = image_data.getHierarchy()
        annotation = next(a for a in hierarchy.getAnnotationObjects() if a.getName() is not None)
        detections = list(hierarchy.getDetectionObjects())
        cell = next(item for item in detections if item.isCell())
        core = hierarchy.getTMAGrid().getTMACoreList()[0]
        spoil = next(self.spoils)
        if spoil == "class of a detection":
            cell.setPathClass(None)
        elif spoil == "measurement of a detection":
            next(d for d in detections if not d.isCell()).getMeasurementList().put("Area", 50.5)
        elif spoil == "name of a core":
            core.setName("B-1")
        elif spoil == "missing core":
            core.setMissing(True)
        elif spoil == "measurement of an annotation":
            annotation.getMeasurementList().put("Length", 1.75)
        elif spoil == "metadata of an annotation":
            annotation.getMetadata().clear()
        elif spoil == "parent of a cell":
            hierarchy.getRootObject().addChildObject(cell)
        elif spoil == "workflow":
            image_data.getHistoryWorkflow().clear()
        elif spoil == "property":
            image_data.removeProperty("own")
        entry.saveImageData(image_data)


REAL_SPOILT = {
    "class of a detection": "the Cell .* has the class None, expected Cell",
    "measurement of a detection": "the Detection .* is different",
    "name of a core": "the TMACore .* is different",
    "missing core": "the TMACore .* is different",
    "measurement of an annotation": "the Annotation .* is different",
    "metadata of an annotation": "the Annotation .* is different",
    "parent of a cell": "the Cell .* has another parent",
    "workflow": "its workflow had .* steps, and has others now",
    "property": "its properties was",
}


def test_whatever_else_a_real_qupath_changes_is_noticed(qupath, template_of, tmp_path):
    project = PaquoWorld(tmp_path, template_of(qupath)).make_project()
    before = fake.files_of(project)
    with ProjectProcess(project, write=True, backend=CarelessQuPath) as writer:
        for message in REAL_SPOILT.values():
            writer.inspect("1")
            with pytest.raises(ProjectError, match=f"what QuPath wrote is not what it was given: {message}"):
                writer.write("1", Changes(add=(result(1),), styles=STYLES), name="image 1")
    assert fake.files_of(project) == before


SPOILT = {
    a_cell_gets_another_class: "the Cell cell .* has the class Other, expected Cell",
    a_cell_loses_its_measurement: "the Cell cell .* is different",
    a_cell_gets_another_measurement: "the Cell cell .* is different",
    a_cell_moves: "the Cell cell .* is different",
    a_cell_gets_another_parent: "the Cell cell .* has another parent",
    a_cell_becomes_another: "the Cell cell .* is missing; the Cell another should not be there",
    a_core_gets_another_name: "the TMACore core .* is different",
    an_annotation_gets_another_measurement: "the Annotation mine-1 .* is different",
    an_annotation_gets_other_metadata: "the Annotation mine-1 .* is different",
    a_result_gets_another_measurement: r"annotation .* has the measurements .*1\.0.*, expected .*25\.0",
    a_result_gets_another_run: "annotation .* has .*run-2.*, expected .*run-1",
    the_workflow_is_dropped: r"its workflow had 2 steps, and has others now \(0\)",
    a_step_gets_other_parameters: r"its workflow had 2 steps, and has others now \(2\)",
    a_step_of_qupaths_own_is_dropped: r"its workflow had 2 steps, and has others now \(1\)",
    a_property_is_dropped: "its properties was .*own.*, is {}",
}


class TestWithoutQuPath:
    """Faults that only a QuPath of our own making has."""

    def test_a_result_that_got_lost_is_noticed_and_the_image_stays(self, tmp_path):
        class Forgetful(fake.FakeBackend):
            def apply(self, project, changes):
                super().apply(project, Changes(add=changes.add[1:], styles=changes.styles))

        self.refused(tmp_path, Forgetful(), r"expected 5 objects, got 4.*Concept 00\) is missing")

    def test_an_annotation_of_somebody_that_got_lost_is_noticed(self, tmp_path):
        class Greedy(fake.FakeBackend):
            def apply(self, project, changes):
                super().apply(project, Changes(add=changes.add, remove=frozenset({"mine-1"}), styles=changes.styles))

        self.refused(tmp_path, Greedy(), r"mine-1 that was there before is missing")

    def test_an_outline_that_was_changed_is_noticed(self, tmp_path):
        class Sloppy(fake.FakeBackend):
            def apply(self, project, changes):
                (first, _), *others = changes.add
                bent = (first, result(1, outline=shapely.box(0, 0, 9, 9))[1])
                super().apply(project, Changes(add=(bent, *others), styles=changes.styles))

        self.refused(tmp_path, Sloppy(), r"has 81.00 px², expected 100.00")

    def test_a_full_disk_leaves_the_image_as_it_was(self, tmp_path):
        class Full(fake.FakeBackend):
            def apply(self, project, changes):
                raise OSError(28, "No space left on device")

        self.refused(tmp_path, Full(), r"No space left on device\. Nothing was lost\. Free some space")

    def test_classes_that_somebody_changed_while_qupath_wrote_are_not_lost(self, tmp_path):
        class Meanwhile(fake.FakeBackend):
            def apply(self, project, changes):
                super().apply(project, changes)
                theirs.write_text(json.dumps({"Tumor": [200, 0, 0], "Theirs": [4, 4, 4]}))

        project = fake.make_project(tmp_path / "project")
        theirs = project.parent / "classifiers" / "classes.json"
        image = project.parent / "data" / "1" / "data.qpdata"
        before = image.read_bytes()
        with ProjectWriter(project, backend=Meanwhile()) as writer:
            writer.inspect("1")
            with pytest.raises(ProjectError, match=r"changed the project's classes .*--resume"):
                writer.write("1", Changes(add=(result(1),), styles=STYLES), name="image 1")
        assert json.loads(theirs.read_text()) == {"Tumor": [200, 0, 0], "Theirs": [4, 4, 4]}
        assert image.read_bytes() == before
        with ProjectWriter(project, backend=fake.FakeBackend()) as writer:
            write(writer, "1", result(1))
        assert json.loads(theirs.read_text()).keys() == {"Tumor", "Theirs", "Concept 00"}

    def test_every_file_is_on_disk_before_it_gets_its_name_and_then_the_name(self, tmp_path, disk_order):
        project = fake.make_project(tmp_path / "project")
        with ProjectWriter(project, backend=fake.FakeBackend()) as writer:
            writer.start_run(run="run-1", settings={})
            disk_order.clear()
            write(writer, "1", result(1))
        renamed = [index for index, (what, _) in enumerate(disk_order) if what == "rename"]
        assert len(renamed) == 3  # classes, summary, image
        for index in renamed:
            assert ("sync", disk_order[index][1]) in disk_order[:index]
        names = (".conceptseg/annotate.jsonl", "data/1", "classifiers", ".conceptseg/backup/run-1")
        journal, image, classes, backups = (("sync", (project.parent / name).stat().st_ino) for name in names)
        assert disk_order.index(backups) < disk_order.index(journal) < renamed[0] < disk_order.index(classes)
        assert renamed[-1] < disk_order.index(image) < disk_order.index(journal, renamed[-1])

    @pytest.mark.parametrize(("spoil", "message"), SPOILT.items(), ids=[spoil.__name__ for spoil in SPOILT])
    def test_whatever_else_qupath_changes_is_noticed(self, tmp_path, spoil, message):
        class Careless(fake.FakeBackend):
            def apply(self, project, changes):
                super().apply(project, changes)
                image = self.image(project)
                spoil(image, {o["id"]: o for o in image["objects"]})
                self.save(project, image)

        self.refused(tmp_path, Careless(), f"what QuPath wrote is not what it was given: {message}")

    def test_the_steps_that_qupath_adds_by_itself_are_no_change(self, tmp_path):
        class Chatty(fake.FakeBackend):
            def apply(self, project, changes):
                super().apply(project, changes)
                image = self.image(project)
                image["steps"] += [["Set image type", ""], ["Set color deconvolution stains", ""]]
                self.save(project, image)

        project = self.full_project(tmp_path)
        with ProjectWriter(project, backend=Chatty()) as writer:
            write(writer, "1", result(1))
            write(writer, "1", result(2))
            assert len(writer.contents("1").results) == 2

    def full_project(self, tmp_path):
        """A project whose first image has objects of every kind."""
        project = fake.make_project(tmp_path / "project")
        image = {
            "objects": [
                fake.drawn_by_hand("mine-1", "Tumor") | {"measurements": {"Length": 1.5}, "metadata": {"a": "b"}},
                fake.drawn_by_hand("cell", "Cell", parent="mine-1") | {"kind": "Cell", "measurements": {"Area": 2}},
                fake.drawn_by_hand("core", None) | {"kind": "TMACore", "name": "A-1"},
            ],
            "steps": [["Set image type", "H&E"], ["Cell detection", "threshold 0.1"]],
            "properties": {"own": "property"},
        }
        (project.parent / "data" / "1" / "data.qpdata").write_text(json.dumps(image))
        return project

    def refused(self, tmp_path, backend, message):
        project = self.full_project(tmp_path)
        before = fake.files_of(project)
        with ProjectWriter(project, backend=backend) as writer:
            writer.inspect("1")
            with pytest.raises(ProjectError, match=message):
                writer.write("1", Changes(add=(result(1), result(2)), styles=STYLES), name="image 1")
        assert fake.files_of(project) == before

    def test_a_folder_that_cannot_be_written_is_said_at_once(self, tmp_path, monkeypatch):
        project = fake.make_project(tmp_path / "project")

        def refuse(path, *arguments, **options):
            raise OSError(30, "Read-only file system", str(path))

        monkeypatch.setattr("pathlib.Path.mkdir", refuse)
        with pytest.raises(ProjectError, match=r"Read-only file system\. Nothing was lost\. Check that you may write"):
            ProjectWriter(project, backend=fake.FakeBackend())

    def test_other_settings_are_not_a_resumed_run(self, tmp_path):
        project = fake.make_project(tmp_path / "project")
        with ProjectWriter(project, backend=fake.FakeBackend()) as writer:
            with pytest.raises(ProjectError, match="no run to resume"):
                writer.resume_run(settings={"k": 16})
            writer.start_run(run="run-1", settings={"k": 16, "seed": 0})
            with pytest.raises(ProjectError, match=r"other settings \(k\)"):
                writer.resume_run(settings={"k": 8, "seed": 0})

    def test_an_incomplete_last_line_of_the_journal_is_as_if_not_written(self, tmp_path):
        project = fake.make_project(tmp_path / "project")
        with ProjectWriter(project, backend=fake.FakeBackend()) as writer:
            writer.start_run(run="run-1", settings={})
            writer.inspect("1")
            writer.write("1", Changes(), name="image 1")
        journal = project.parent / ".conceptseg" / "annotate.jsonl"
        journal.write_text(journal.read_text() + '{"image":"2","sta')
        with ProjectWriter(project, backend=fake.FakeBackend()) as writer:
            assert set(writer.resume_run(settings={}).done) == {"1"}
            writer.inspect("3")
            writer.write("3", Changes(), name="image 3")
            assert set(writer.resume_run(settings={}).done) == {"1", "3"}

    def test_a_lock_of_another_computer_needs_force(self, tmp_path):
        project = fake.make_project(tmp_path / "project")
        folder = project.parent / ".conceptseg"
        folder.mkdir()
        (folder / "lock").write_text('{"pid": 7, "host": "elsewhere", "since": "yesterday"}')
        with pytest.raises(ProjectError, match=r"process 7 on elsewhere, since yesterday.*--force"):
            ProjectWriter(project, backend=fake.FakeBackend())
        ProjectWriter(project, backend=fake.FakeBackend(), force=True).close()
        ProjectWriter(project, backend=fake.FakeBackend()).close()

    def test_only_the_newest_backups_are_kept(self, tmp_path):
        project = fake.make_project(tmp_path / "project")
        for number in range(5):
            with ProjectWriter(project, backend=fake.FakeBackend()) as writer:
                writer.keep_backups(f"run-{number}")
                os.utime(project.parent / ".conceptseg" / "backup" / f"run-{number}", (number, number))
        kept = {path.name for path in (project.parent / ".conceptseg" / "backup").iterdir()}
        assert kept == {"run-2", "run-3", "run-4"}
