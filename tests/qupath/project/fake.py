"""A QuPath for tests of everything around it: it keeps the objects of an image as JSON in ``data.qpdata``."""

import json

import shapely

from conceptseg.qupath.project.contents import Area, ImageContents, ImageState, ObjectState, Outline, Result, Step
from conceptseg.qupath.project.entries import read_document


class FakeBackend:
    """Reads and writes as QuPath does: in place, and in several steps."""

    def contents(self, project):
        objects = self._objects(project)
        results = [_result(o) for o in objects if "run" in o]
        areas = [_area(o) for o in objects if "run" not in o and "kind" not in o]
        return ImageContents(results=tuple(results), areas=tuple(areas), object_count=len(objects))

    def state(self, project):
        image = self.image(project)
        return ImageState(
            objects={o["id"]: _state(o) for o in image["objects"]},
            results={o["id"]: (_result(o), o["measurements"]) for o in image["objects"] if "run" in o},
            steps=tuple(Step(name=name, content=content) for name, content in image.get("steps", [])),
            facts={"properties": str(image.get("properties"))},
        )

    def outlines(self, project):
        return {
            o["id"]: Outline(wkb=bytes.fromhex(o["wkb"]), measurements=o["measurements"])
            for o in self._objects(project)
            if "run" in o
        }

    def apply(self, project, changes):
        image = self.image(project)
        objects = {o["id"]: o for o in image["objects"]}
        for o in objects.values():
            o["class"] = changes.rename.get(o["id"], o["class"])
            while o["parent"] in changes.remove:
                o["parent"] = objects[o["parent"]]["parent"]
        for identifier in changes.remove:
            del objects[identifier]
        for result, outline in changes.add:
            objects[result.identifier] = {
                "id": result.identifier,
                "parent": result.parent,
                "class": result.class_name,
                "run": result.run,
                "dictionary": result.dictionary,
                "concepts": result.found,
                "reassigned": result.reassigned,
                "review": result.review,
                "z": result.z,
                "t": result.t,
                "wkb": outline.wkb.hex(),
                "measurements": dict(outline.measurements),
            }
        self._register(project, changes.styles)
        self.save(project, {**image, "objects": list(objects.values())})

    def export_geojson(self, project, target):
        objects = self._objects(project)
        target.write_text(json.dumps({"type": "FeatureCollection", "features": objects}))
        return len(objects)

    def create(self, folder, slides):
        failed = {slide: "it is no image" for slide in slides if not slide.is_file()}
        images = [
            {"entryID": number, "imageName": slide.name, "serverBuilder": {"builderType": "uri", "uri": slide.as_uri()}}
            for number, slide in enumerate((s for s in slides if s not in failed), start=1)
        ]
        (folder / "project.qpproj").write_text(json.dumps({"uri": folder.as_uri(), "images": images}))
        return failed

    def _register(self, project, styles):
        path = project.parent / "classifiers" / "classes.json"
        classes = json.loads(path.read_text()) if path.exists() else {}
        new = {s.name: s.colour for s in styles if s.chosen or s.name not in classes}
        if new:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(classes | new))

    def _data(self, project):
        (image,) = read_document(project)["images"]
        return project.parent / "data" / str(image["entryID"]) / "data.qpdata"

    def image(self, project):
        """What the file of an image holds: its objects, and with some tests steps of the workflow and properties."""
        data = self._data(project)
        return json.loads(data.read_text()) if data.exists() else {"objects": []}

    def save(self, project, image):
        data = self._data(project)
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_text("")
        data.write_text(json.dumps(image))
        (data.parent / "summary.json").write_text(json.dumps({"objects": len(image["objects"])}))

    def _objects(self, project):
        return self.image(project)["objects"]


def make_project(folder, images=3):
    """A project of ``images`` images, each with an annotation of somebody and two classes in the project."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "entryID": number,
            "imageName": f"slide-{number}.png",
            "serverBuilder": {"builderType": "uri", "uri": (folder / f"slide-{number}.png").as_uri()},
        }
        for number in range(1, images + 1)
    ]
    project = folder / "project.qpproj"
    project.write_text(json.dumps({"version": "0.6.0", "images": entries}))
    for number in range(1, images + 1):
        data = folder / "data" / str(number)
        data.mkdir(parents=True)
        objects = [drawn_by_hand(f"mine-{number}", "Tumor")]
        (data / "data.qpdata").write_text(json.dumps({"objects": objects}))
        (data / "summary.json").write_text(json.dumps({"objects": 1}))
    (folder / "classifiers").mkdir()
    (folder / "classifiers" / "classes.json").write_text(json.dumps({"Tumor": [200, 0, 0], "Stroma": [1, 2, 3]}))
    return project


def drawn_by_hand(identifier, class_name, parent=None, outline=None):
    outline = outline or shapely.box(0, 0, 50, 50)
    return {
        "id": identifier,
        "parent": parent,
        "class": class_name,
        "wkb": shapely.to_wkb(outline).hex(),
        "measurements": {},
    }


def objects_of(project, image):
    """What the file of an image holds now."""
    return json.loads((project.parent / "data" / image / "data.qpdata").read_text())["objects"]


def files_of(project):
    """Path -> content of everything that belongs to QuPath."""
    folder = project.parent
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".conceptseg" not in path.parts
    }


def _result(o):
    polygon = shapely.from_wkb(bytes.fromhex(o["wkb"]))
    return Result(
        identifier=o["id"],
        parent=o["parent"],
        class_name=o["class"],
        run=o["run"],
        dictionary=o["dictionary"],
        found=tuple(o["concepts"]),
        area_px=polygon.area,
        length_px=polygon.length,
        reassigned=o.get("reassigned"),
        review=o.get("review"),
        z=o.get("z", 0),
        t=o.get("t", 0),
    )


def _area(o):
    return Area(
        identifier=o["id"],
        parent=o["parent"],
        class_name=o["class"],
        wkb=bytes.fromhex(o["wkb"]),
        z=o.get("z", 0),
        t=o.get("t", 0),
    )


def _state(o):
    rest = {key: value for key, value in o.items() if key not in ("class", "parent")}
    return ObjectState(
        kind=o.get("kind", "Annotation"),
        class_name=o["class"],
        parent=o["parent"],
        rest=json.dumps(rest, sort_keys=True).encode(),
    )
