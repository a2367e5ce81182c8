"""The process that reads and writes QuPath projects, and the only module that imports paquo.

Importing paquo starts a Java machine with one version of QuPath, which can be neither ended nor started again. So all
of it happens in a process of its own, and paquo is imported there and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from conceptseg.domain.errors import ConceptSegError, ProjectError
from conceptseg.qupath.locate import find_qupath_installations
from conceptseg.qupath.project.classes import require_sound_classes
from conceptseg.qupath.project.contents import (
    ACCEPTED,
    CONCEPT,
    DICTIONARY,
    REASSIGNED,
    REJECTED,
    REVIEW,
    RUN,
    Area,
    Changes,
    ClassStyle,
    ImageContents,
    ImageState,
    ObjectState,
    Outline,
    ProjectBackend,
    Result,
    Step,
    concept_number,
    concept_numbers,
)
from conceptseg.qupath.project.entries import PROJECT_FILE
from conceptseg.qupath.project.writer import ProjectReader, ProjectWriter

# The classes of a new QuPath project, in its order. A project without a list of its own gets it the first time QuPath
# opens it, unless somebody gave it a list before: then these would be missing.
_STANDARD_CLASSES = ("TUMOR", "STROMA", "IMMUNE_CELLS", "NECROSIS", "OTHER", "REGION", "IGNORE", "POSITIVE", "NEGATIVE")

# The property in which QuPath notes where the project lies that it opened: here, always a copy.
_PLACE = "PROJECT_ENTRY_ID"

# A writer's Java machine does a second of work per image: compiling it thoroughly took three times as long as doing it.
_QUICK_COMPILER = "-XX:TieredStopAtLevel=1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a writer process shall work on.

    Attributes:
        project: The project file.
        write: Change the project, instead of only reading it.
        force: Ignore the lock that a process on another computer left.
        backend: Makes the QuPath to work with; importable by name.
        log: File for whatever QuPath prints.
    """

    project: Path
    write: bool
    force: bool
    backend: Callable[[], ProjectBackend]
    log: Path


def serve(task: Task, connection: Connection) -> None:
    """Answer calls until the other side hangs up: the main function of the process.

    A call is (method, arguments, keyword arguments); its answer is (True, result) or (False, error). The first answer
    says whether the project could be opened.
    """
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl+C is for the command, which then lets this process end between two images
    log = os.open(task.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (sys.__stdout__, sys.__stderr__):
        if descriptor is not None:
            descriptor.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        reader = _open(task)
    except ConceptSegError as error:
        connection.send((False, error))
        return
    connection.send((True, None))
    with reader:
        while True:
            try:
                method, arguments, keywords = connection.recv()
            except (EOFError, ConnectionResetError):
                return
            try:
                answer = (True, getattr(reader, method)(*arguments, **keywords))
            except ConceptSegError as error:
                answer = (False, error)
            except Exception as error:  # noqa: BLE001 - whatever an image does to a library, the others go on
                traceback.print_exc()
                answer = (False, ProjectError(f"{type(error).__name__}: {error}. Please report this."))
            connection.send(answer)


def _open(task: Task) -> ProjectReader:
    backend = task.backend()
    if task.write:
        return ProjectWriter(task.project, backend=backend, force=task.force)
    return ProjectReader(task.project, backend=backend)


class PaquoBackend:
    """The QuPath of this machine, through paquo."""

    def __init__(self) -> None:
        """Start QuPath's Java machine in this process.

        Raises:
            ProjectError: there is no QuPath, or it does not start.
        """
        found = find_qupath_installations()
        if not found:
            raise ProjectError(
                "No QuPath was found on this machine. Install it from qupath.github.io or with `paquo get_qupath`, or "
                "set PAQUO_QUPATH_DIR to its folder."
            )
        os.environ["PAQUO_QUPATH_DIR"] = str(found[0].path)
        # The user's options come last, and win.
        os.environ["JAVA_TOOL_OPTIONS"] = f"{_QUICK_COMPILER} {os.environ.get('JAVA_TOOL_OPTIONS', '')}".strip()
        try:
            import jpype
            from paquo import java
            from paquo.images import QuPathImageType
            from paquo.projects import QuPathProject
        except (ImportError, OSError, RuntimeError) as error:
            raise ProjectError(
                f"QuPath {found[0].version} at {found[0].path} does not start: {error}. Check it with "
                "`conceptseg doctor`, or set PAQUO_QUPATH_DIR to another one."
            ) from error
        self._java = java
        self._java_error = jpype.JException
        self._class = jpype.JClass
        self._uuid = jpype.JClass("java.util.UUID")
        self._in_order = jpype.JClass("java.util.TreeMap")  # the order of a hash map depends on how it came about
        self._open_project = QuPathProject
        self._image_type = QuPathImageType.BRIGHTFIELD_H_E
        self._standard_classes = jpype.JClass("qupath.lib.objects.classes.PathClass$StandardPathClasses")

    def contents(self, project: Path) -> ImageContents:
        """See `ProjectBackend`."""
        with self._errors("read", project):
            hierarchy = self._hierarchy(project)
            results: list[Result] = []
            areas: list[Area] = []
            read = self._result_reader()
            for annotation in hierarchy.getAnnotationObjects():
                result = read(annotation)
                if result is not None:
                    results.append(result)
                else:
                    areas.append(self._area(annotation))
            return ImageContents(results=tuple(results), areas=tuple(areas), object_count=int(hierarchy.nObjects()))

    def state(self, project: Path) -> ImageState:
        """See `ProjectBackend`."""
        with self._errors("read", project):
            image_data = self._open_project(project, mode="r").images[0].java_object.readImageData()
            hierarchy = image_data.getHierarchy()
            grid = hierarchy.getTMAGrid()
            properties = self._in_order(image_data.getProperties())
            properties.remove(_PLACE)
            facts = {
                "image type": str(image_data.getImageType()),
                "stains": str(image_data.getColorDeconvolutionStains()),
                "properties": str(properties),
                "TMA grid": "" if grid is None else _grid(grid),
            }
            objects: dict[str, ObjectState] = {}
            results: dict[str, tuple[Result, Mapping[str, float]]] = {}
            read = self._result_reader()
            for item in hierarchy.getRootObject().getDescendantObjects(self._java.ArrayList()):
                identifier = str(item.getID())
                while identifier in objects:  # what was imported twice has one id twice
                    identifier += "'"
                objects[identifier] = self._object_state(item)
                result = read(item) if item.isAnnotation() else None
                if result is not None:
                    results[identifier] = (result, _measurements(item))
            return ImageState(
                objects=objects,
                results=results,
                steps=tuple(map(_step, image_data.getHistoryWorkflow().getSteps())),
                facts=facts,
            )

    def outlines(self, project: Path) -> Mapping[str, Outline]:
        """See `ProjectBackend`."""
        with self._errors("read", project):
            return {
                str(annotation.getID()): Outline(
                    wkb=self._wkb(annotation.getROI()),
                    measurements=_measurements(annotation),
                )
                for annotation in self._hierarchy(project).getAnnotationObjects()
                if annotation.getMetadata().containsKey(RUN)
            }

    def apply(self, project: Path, changes: Changes) -> None:
        """See `ProjectBackend`."""
        with self._errors("write", project):
            require_sound_classes(project)
            opened = self._open_project(project, mode="r+")
            entry = opened.images[0].java_object
            # paquo's own save() leaves an image out when its slide is missing, or when it thinks nothing changed.
            image_data = entry.readImageData()
            hierarchy = image_data.getHierarchy()
            by_id = {str(annotation.getID()): annotation for annotation in hierarchy.getAnnotationObjects()}
            classes = self._register(opened, changes.styles)
            for identifier, class_name in changes.rename.items():
                annotation = by_id[identifier]
                own_colour = annotation.getColor()  # which QuPath forgets with the class, and rejected ones have
                annotation.setPathClass(classes[class_name])
                if own_colour is not None:
                    annotation.setColor(own_colour)
            _detach([by_id[identifier] for identifier in changes.remove])
            children = defaultdict(list)
            make = self._annotation_maker()
            for result, outline in changes.add:
                children[result.parent].append(make(result, outline, classes[result.class_name]))
            for parent, annotations in children.items():
                owner = by_id[parent] if parent is not None else hierarchy.getRootObject()
                owner.addChildObjects(annotations)
            hierarchy.fireHierarchyChangedEvent(hierarchy.getRootObject())
            entry.saveImageData(image_data)

    def export_geojson(self, project: Path, target: Path) -> int:
        """See `ProjectBackend`."""
        with self._errors("export", project):
            root = self._hierarchy(project).getRootObject()
            objects = list(root.getDescendantObjects(self._java.ArrayList()))
            options = self._class("qupath.lib.io.PathIO$GeoJsonExportOptions")
            path = self._java.File(str(target)).toPath()
            self._java.PathIO.exportObjectsAsGeoJSON(path, objects, options.FEATURE_COLLECTION)
            return len(objects)

    def create(self, folder: Path, slides: Sequence[Path]) -> Mapping[Path, str]:
        """See `ProjectBackend`."""
        failed: dict[Path, str] = {}
        with self._errors("create", folder):
            project = self._open_project(folder / PROJECT_FILE, mode="x")
            for slide in slides:
                try:
                    project.add_image(slide, image_type=self._image_type)
                except FileExistsError:
                    failed[slide] = "it was given twice"
                except (OSError, RuntimeError, self._java_error) as error:
                    failed[slide] = f"QuPath cannot open it: {error}"
            project.save()
        return failed

    def _hierarchy(self, project: Path) -> Any:
        return self._open_project(project, mode="r").images[0].hierarchy.java_object

    def _result_reader(self) -> Callable[[Any], Result | None]:
        """A function that reads a result; None for an annotation that is not ours."""
        run_key, dictionary_key, concept_key, reassigned_key, review_key = (
            self._java.String(key) for key in (RUN, DICTIONARY, CONCEPT, REASSIGNED, REVIEW)
        )

        def read(annotation: Any) -> Result | None:
            metadata = annotation.getMetadata()
            run = metadata.get(run_key)
            if run is None:
                return None
            roi = annotation.getROI()
            path_class = annotation.getPathClass()
            review = str(metadata.get(review_key) or "")
            return Result(
                identifier=str(annotation.getID()),
                parent=_parent(annotation),
                class_name=str(path_class) if path_class is not None else "",
                run=str(run),
                dictionary=str(metadata.get(dictionary_key) or ""),
                found=concept_numbers(str(metadata.get(concept_key) or "")),
                area_px=float(roi.getArea()),
                length_px=float(roi.getLength()),
                z=int(roi.getZ()),
                t=int(roi.getT()),
                reassigned=concept_number(str(metadata.get(reassigned_key) or "")),
                review=review if review in (ACCEPTED, REJECTED) else None,
            )

        return read

    def _area(self, annotation: Any) -> Area:
        roi = annotation.getROI()
        path_class = annotation.getPathClass()
        class_name = str(path_class) if path_class is not None else None
        return Area(
            identifier=str(annotation.getID()),
            parent=_parent(annotation),
            class_name=class_name,
            wkb=self._wkb(roi) if roi is not None and roi.isArea() else None,
            z=int(roi.getZ()) if roi is not None else 0,
            t=int(roi.getT()) if roi is not None else 0,
        )

    def _object_state(self, item: Any) -> ObjectState:
        # Java writes whole maps in one call; a call from here costs some µs, and an image may have a million cells.
        path_class = item.getPathClass()
        facts = [
            str(item.getName()),
            str(item.getColor()),
            str(item.isLocked()),
            str(self._in_order(item.getMeasurements())),
            str(self._in_order(item.getMetadata())),
            *_shape(item.getROI()),
        ]
        if item.isCell():
            facts += _shape(item.getNucleusROI())
        if item.isTMACore():
            facts.append(str(item.isMissing()))
        return ObjectState(
            kind=type(item).__name__.rpartition(".")[2].removeprefix("Path").removesuffix("Object"),
            class_name=None if path_class is None else str(path_class),
            parent=_parent(item),
            rest=hashlib.blake2b("\n".join(facts).encode("utf-8", "surrogatepass"), digest_size=16).digest(),
        )

    def _wkb(self, roi: Any) -> bytes:
        return bytes(self._java.WKBWriter(2).write(self._java.GeometryTools.roiToGeometry(roi)))

    def _annotation_maker(self) -> Callable[[Result, Outline, Any], Any]:
        """A function that makes an annotation; a call into Java costs some µs, so whatever can be shared is."""
        java, uuid = self._java, self._uuid
        # QuPath's own factory keeps hundredths of a px; an outline that this spoils stays exact.
        rounding, exact = java.WKBReader(java.GeometryTools.getDefaultFactory()), java.WKBReader()
        text, plane = cache(java.String), cache(self._class("qupath.lib.regions.ImagePlane").getPlane)

        def make(result: Result, outline: Outline, path_class: Any) -> Any:
            geometry = rounding.read(outline.wkb)
            if geometry.isEmpty() or not geometry.isValid():
                geometry = exact.read(outline.wkb)
            roi = java.GeometryTools.geometryToROI(geometry, plane(result.z, result.t))
            annotation = java.PathObjects.createAnnotationObject(roi, path_class)
            annotation.setID(uuid.fromString(result.identifier))
            metadata = annotation.getMetadata()
            for key, value in result.metadata.items():
                metadata.put(text(key), text(value))
            measurements = annotation.getMeasurementList()
            for name, number in outline.measurements.items():
                measurements.put(text(name), float(number))
            measurements.close()
            annotation.setLocked(True)
            return annotation

        return make

    def _register(self, project: Any, styles: Sequence[ClassStyle]) -> dict[str, Any]:
        """QuPath's classes by name; those that are new to the project join its list."""
        classes = {}
        for style in styles:
            colour = self._java.Integer(self._java.ColorTools.packRGB(*style.colour)) if style.colour else None
            # A class that QuPath knows keeps its colour here, as it does everywhere in QuPath.
            path_class = self._java.PathClass.fromString(style.name, colour)
            if style.chosen:
                path_class.setColor(colour)
            classes[style.name] = path_class
        listed = list(project.java_object.getPathClasses())
        if not listed:
            listed = [getattr(self._standard_classes, name) for name in _STANDARD_CLASSES]
        known = {str(path_class) for path_class in listed}
        new = [path_class for name, path_class in classes.items() if name not in known]
        if new or any(style.chosen for style in styles):
            project.java_object.setPathClasses([*listed, *new])
            project.save(images=False)
        return classes

    @contextmanager
    def _errors(self, doing: str, project: Path) -> Iterator[None]:
        try:
            yield
        except self._java_error as error:
            raise ProjectError(f"QuPath cannot {doing} the image ({error}). Nothing was changed.") from None
        except FileNotFoundError as error:
            raise ProjectError(f"QuPath cannot {doing} {project}: {error}. Nothing was changed.") from error


def _parent(annotation: Any) -> str | None:
    parent = annotation.getParent()
    return None if parent is None or parent.isRootObject() else str(parent.getID())


def _measurements(item: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in item.getMeasurements().items()}


def _shape(roi: Any) -> list[str]:
    """What tells a shape from others, as text."""
    if roi is None:
        return []
    numbers = (
        *(roi.getBoundsX(), roi.getBoundsY(), roi.getBoundsWidth(), roi.getBoundsHeight()),
        *(roi.getCentroidX(), roi.getCentroidY(), roi.getArea(), roi.getLength(), roi.getNumPoints()),
        *(roi.getC(), roi.getZ(), roi.getT()),
    )
    return [str(roi.getRoiName()), *map(repr, numbers)]


def _grid(grid: Any) -> str:
    cores = " ".join(str(core.getID()) for core in grid.getTMACoreList())
    return f"{grid.getGridWidth()} × {grid.getGridHeight()}: {cores}"


def _step(step: Any) -> Step:
    script = step.getScript() if hasattr(step, "getScript") else ""
    return Step(name=str(step.getName()), content=f"{step.getParameterMap()} {script}")


def _detach(annotations: Sequence[Any]) -> None:
    """Take annotations out of the hierarchy; what lies inside them moves up to the nearest parent that stays."""
    leaving = {str(annotation.getID()) for annotation in annotations}
    by_parent: dict[str, tuple[Any, list[Any]]] = {}
    for annotation in annotations:
        parent = annotation.getParent()
        by_parent.setdefault(str(parent.getID()), (parent, []))[1].append(annotation)
    # Children before parents, so that what moves up moves on until it finds a parent that stays.
    for parent, children in sorted(by_parent.values(), key=lambda item: -int(item[0].getLevel())):
        inside = []
        for child in children:
            kept = [item for item in child.getChildObjects() if str(item.getID()) not in leaving]
            child.removeChildObjects(kept)
            inside.extend(kept)
        parent.removeChildObjects(children)
        parent.addChildObjects(inside)
