"""QuPath's real window on a display of its own, used with a real mouse and keyboard."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from conceptseg.qupath.install import find_extension, find_user_folders, install, write_server_command
from conceptseg.qupath.locate import QuPathInstallation

OBSERVER = Path(__file__).with_name("observer.groovy")
# A project with images of one file; each has a rectangle that is called Region.
MAKE_PROJECT = """
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.images.servers.ImageServers
def project = Projects.createProject(new File("FOLDER"), BufferedImage)
COUNT.times { index ->
    def server = ImageServers.buildServer(new File("IMAGE").toURI())
    def entry = project.addImage(server.getBuilder())
    entry.setImageName("image " + index)
    def data = new ImageData(server)
    data.setImageType(ImageData.ImageType.BRIGHTFIELD_H_E)
    if (!server.getPixelCalibration().hasPixelSizeMicrons()) {
        server.setMetadata(new ImageServerMetadata.Builder(server.getMetadata()).pixelSizeMicrons(0.5, 0.5).build())
    }
    def roi = ROIs.createRectangleROI(100, 100, server.getWidth() - 200, server.getHeight() - 200,
        ImagePlane.getDefaultPlane())
    def region = PathObjects.createAnnotationObject(roi)
    region.setName("Region")
    data.getHierarchy().addObject(region)
    entry.saveImageData(data)
}
project.syncChanges()
getQuPath().setProject(project)
"""
# Opens the first image and selects its rectangle.
OPEN_IMAGE = """
getQuPath().openImageEntry(getProject().getImageList()[0])
def hierarchy = getQuPath().getImageData().getHierarchy()
hierarchy.getSelectionModel().setSelectedObject(hierarchy.getAnnotationObjects().find { it.getName() == "Region" })
"""
PROGRAMS = ("Xvfb", "openbox", "xdotool")


def missing_programs() -> list[str]:
    """What this machine lacks for a window."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def isolated(folder: Path, *options: str) -> dict[str, str]:
    """Environment variables that give QuPath and ConceptSeg a home, preferences and configuration in ``folder``."""
    java = [f"-Duser.home={folder}", f"-Djava.util.prefs.userRoot={folder}", "-Dprism.order=sw", *options]
    return {"JAVA_TOOL_OPTIONS": " ".join(java), "CONCEPTSEG_CONFIG_DIR": str(folder / "config")}


def install_extension(jar: Path, environment: Mapping[str, str]) -> None:
    """What ``conceptseg qupath install`` does, with this jar."""
    kept = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        extension = find_extension([jar.parent])
        for user_folder in find_user_folders():
            install(user_folder, extension)
        write_server_command()
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class QuPathWindow:
    """A running QuPath; see `open_qupath`."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, environment: Mapping[str, str]) -> None:
        self.process = process
        self.log = folder / "qupath.log"
        self._questions = folder / "questions"
        self._environment = environment
        self._asked = 0

    def ask(self, groovy: str, *, seconds: float = 120) -> Any:
        """What the Groovy text evaluates to inside QuPath, on its JavaFX thread."""
        number, self._asked = self._asked, self._asked + 1
        answer = self._questions / f"{number}.json"
        part = self._questions / "question.part"
        part.write_text(groovy, encoding="utf-8")
        part.rename(self._questions / f"{number}.groovy")
        self._until(answer.exists, seconds, groovy)
        told = json.loads(answer.read_text(encoding="utf-8"))
        assert "error" not in told, told["error"]
        return told.get("value")

    def wait_for(self, groovy: str, *, seconds: float = 120) -> Any:
        """The first true answer."""
        answers = [None]

        def true() -> bool:
            answers[0] = self.ask(groovy)
            return bool(answers[0])

        self._until(true, seconds, groovy)
        return answers[0]

    def make_project(self, folder: Path, image: Path, *, count: int = 1) -> None:
        """Make and open a project with ``count`` times the same image, each with a rectangle ``Region``."""
        folder.mkdir()
        given = {"FOLDER": folder, "IMAGE": image, "COUNT": count}
        question = MAKE_PROJECT
        for name, value in given.items():
            question = question.replace(name, str(value))
        self.ask(question)

    def open_image(self) -> None:
        """Open the first image of the project and select its rectangle."""
        self.ask(OPEN_IMAGE)

    def click(self, text: str, *, seconds: float = 60) -> None:
        """Click with the mouse on what carries this text, in the newest window that has it."""
        place, before = self.wait_for(f"places('{text}')", seconds=seconds), None
        while place != before:  # a window that is still opening moves and takes no clicks
            time.sleep(0.3)
            place, before = self.wait_for(f"places('{text}')", seconds=seconds), place
        x, y = place[-1]
        self._xdotool("mousemove", round(x), round(y), "click", 1)

    def menu(self, *path: str) -> None:
        """Click on a menu, on the menus below it, and on the item."""
        for text in path:
            self.click(text)

    def press(self, keys: str) -> None:
        """Press keys, such as ``ctrl+z``."""
        self._xdotool("key", keys)

    def screenshot(self, path: Path) -> None:
        """The whole screen as a picture (needs ImageMagick)."""
        subprocess.run(["import", "-window", "root", path], env=self._environment, check=True)

    def close(self) -> None:
        """Close the main window as the window manager does."""
        self.ask("getQuPath().getStage().toFront(); getQuPath().getStage().requestFocus()")
        self.press("alt+F4")

    def _xdotool(self, *arguments: object) -> None:
        subprocess.run(["xdotool", *map(str, arguments)], env=self._environment, check=True, timeout=30)

    def _until(self, condition: Any, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"QuPath ended: {self.log.read_text(errors='replace')[-4000:]}"
            assert time.monotonic() < end, f"Waited {seconds} s for {what}: {self._situation()}"
            time.sleep(0.05)

    def _situation(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@contextmanager
def open_qupath(
    installation: QuPathInstallation, folder: Path, environment: Mapping[str, str], *, size: str = "1600x1000"
) -> Iterator[QuPathWindow]:
    """Start QuPath on a screen of its own; ``environment`` is that of `isolated`."""
    questions = folder / "questions"
    questions.mkdir(parents=True)
    java = environment["JAVA_TOOL_OPTIONS"]
    java += f" -Dqupath.startup.script={OBSERVER} -Dconceptseg.test.folder={questions}"
    with ExitStack() as stack:
        display = stack.enter_context(_screen(size))
        everything = os.environ | environment | {"JAVA_TOOL_OPTIONS": java, "DISPLAY": display}
        stack.enter_context(_running(["openbox"], everything, folder / "openbox.log"))
        command = [str(installation.launcher), "--quiet"]
        process = stack.enter_context(_running(command, everything, folder / "qupath.log"))
        window = QuPathWindow(process, folder, everything)
        window.wait_for("getQuPath() != null && getQuPath().getStage().isShowing()")
        yield window


@contextmanager
def _screen(size: str) -> Iterator[str]:
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", f"{size}x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as screen:
        assert screen.stdout is not None
        try:
            yield f":{screen.stdout.readline().strip()}"
        finally:
            screen.terminate()


@contextmanager
def _running(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        yield process
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            _, alive = psutil.wait_procs([psutil.Process(process.pid), *family], timeout=20)
            for left in alive:
                left.kill()
        process.wait()
