"""Everything that the jar calls in QuPath exists there: the hand-written declarations say the truth."""

import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import classfile
import pytest

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

Find = Callable[[str], classfile.ClassFile | None]
PROVIDED = ("qupath/", "org/locationtech/", "org/slf4j/", "javafx/")


def _lookup(installation: QuPathInstallation) -> Find:
    jars = [zipfile.ZipFile(path) for path in sorted(installation.path.rglob("*.jar")) if "runtime" not in path.parts]
    where = {name: jar for jar in jars for name in jar.namelist() if name.endswith(".class")}

    @cache
    def find(name: str) -> classfile.ClassFile | None:
        member = f"{name}.class"
        return classfile.read(where[member].read(member)) if member in where else None

    return find


def _own_classes(jar: Path) -> Iterator[classfile.ClassFile]:
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if name.startswith("io/github/conceptseg/") and "/shaded/" not in name and name.endswith(".class"):
                yield classfile.read(archive.read(name))


def _references(jar: Path) -> Iterator[tuple[str, classfile.Reference]]:
    for own in _own_classes(jar):
        for reference in own.references:
            if reference.owner.startswith(PROVIDED):
                yield own.name, reference


def _flags(owner: str, member: tuple[str, str], find: Find) -> int | None:
    """Access flags of a member that a class has or inherits; None if it has none."""
    found = find(owner)
    if found is None:
        return None
    if member in found.members:
        return found.members[member]
    inherited = (_flags(parent, member, find) for parent in found.parents if not parent.startswith("java/"))
    return next((flags for flags in inherited if flags is not None), None)


def _ancestors(name: str, find: Find) -> set[str]:
    found = find(name)
    parents = found.parents if found is not None else ()
    return set(parents).union(*(_ancestors(parent, find) for parent in parents))


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
        elif _flags(reference.owner, (reference.name, reference.descriptor), find) is None:
            missing.append(f"{caller}: {reference.owner}.{reference.name}{reference.descriptor}")
    assert missing == []
    assert "qupath/lib/gui/TaskRunnerFX" in used


@pytest.mark.qupath
@pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version)
def test_every_declaration_is_true(jar: Path, installation: QuPathInstallation) -> None:
    find = _lookup(installation)
    wrong = []
    declarations = sorted((jar.parent / "classes" / "qupath").rglob("*.class"))
    for declaration in (classfile.read(path.read_bytes()) for path in declarations):
        name, real = declaration.name, find(declaration.name)
        if real is None or real.is_interface != declaration.is_interface:
            wrong.append(f"{name} is gone, or no longer the class or interface it was")
            continue
        ancestors = _ancestors(name, find)
        wrong += [f"{name} is no {p}" for p in declaration.parents if p not in ancestors and p != "java/lang/Object"]
        for member, declared in declaration.members.items():
            if member in (("<init>", "()V"), ("<clinit>", "()V")) or declared & classfile.SYNTHETIC:
                continue  # the compiler's own
            flags = _flags(name, member, find)
            if flags is None or (flags ^ declared) & classfile.STATIC:
                wrong.append(f"{name}.{''.join(member)}")
    assert wrong == []
    assert len(declarations) > 30


@pytest.mark.qupath
@pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version)
def test_what_the_jar_implements_of_qupath_is_complete(jar: Path, installation: QuPathInstallation) -> None:
    find = _lookup(installation)
    missing = []
    implemented = set()
    for ours in _own_classes(jar):
        for interface in (parent for parent in ours.parents if parent.startswith("qupath/")):
            implemented.add(interface)
            for name in {interface, *_ancestors(interface, find)}:
                methods = find(name).members if find(name) is not None else {}
                missing += [
                    f"{ours.name}: {name}.{''.join(method)}"
                    for method, flags in methods.items()
                    if flags & classfile.ABSTRACT and method not in ours.members
                ]
    assert missing == []
    listeners = {f"qupath/lib/objects/hierarchy/events/PathObject{of}Listener" for of in ("Hierarchy", "Selection")}
    assert implemented == {"qupath/lib/gui/extensions/QuPathExtension", *listeners}
