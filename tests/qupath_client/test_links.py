"""Everything that the jar calls in QuPath exists there: the hand-written declarations say the truth."""

import importlib.util
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

PROVIDED = ("qupath/", "org/locationtech/", "org/slf4j/", "javafx/")


def _classfile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("classfile", Path(__file__).with_name("classfile.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["classfile"] = module
    spec.loader.exec_module(module)
    return module


classfile = _classfile()


def _lookup(installation: QuPathInstallation) -> Callable[[str], object]:
    jars = [zipfile.ZipFile(path) for path in sorted(installation.path.rglob("*.jar")) if "runtime" not in path.parts]
    where = {name: jar for jar in jars for name in jar.namelist() if name.endswith(".class")}

    @cache
    def find(name: str) -> object:
        member = f"{name}.class"
        return classfile.read(where[member].read(member)) if member in where else None

    return find


def _references(jar: Path) -> Iterator[tuple[str, object]]:
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if name.startswith("io/github/conceptseg/") and "/shaded/" not in name and name.endswith(".class"):
                for reference in classfile.read(archive.read(name)).references:
                    if reference.owner.startswith(PROVIDED):
                        yield name, reference


def _resolves(reference: object, owner: str, find: Callable[[str], object]) -> bool:
    found = find(owner)
    if found is None:
        return owner.startswith("java/")  # the JDK's own: whatever QuPath inherits from there
    if (reference.name, reference.descriptor) in found.members:
        return True
    return any(_resolves(reference, parent, find) for parent in found.parents if not parent.startswith("java/"))


@pytest.mark.qupath
@pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version)
def test_every_call_into_qupath_links(jar: Path, installation: QuPathInstallation) -> None:
    find = _lookup(installation)
    missing = []
    used = set()
    for caller, reference in _references(jar):
        owner = find(reference.owner)
        used.add(reference.owner)
        if owner is None or owner.is_interface != reference.through_interface:
            missing.append(f"{caller}: {reference.owner} is gone, or no longer the class or interface it was")
        elif not _resolves(reference, reference.owner, find):
            missing.append(f"{caller}: {reference.owner}.{reference.name}{reference.descriptor}")
    assert missing == []
    assert "qupath/lib/gui/TaskRunnerFX" in used
