"""Whether an image holds after a change exactly what it should."""

from __future__ import annotations

from collections.abc import Iterator

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.project.contents import Changes, ImageState, Outline, Result

_ROUNDING_PX = 0.02
"""QuPath keeps hundredths of a px, and float32 coordinates of simple outlines: how far an edge may move."""

OWN_STEPS = frozenset({"Set image type", "Set color deconvolution stains"})
"""Names of the workflow steps that QuPath adds by itself when it reads an image: there may be more of them."""


def verify(image: str, *, before: ImageState, changes: Changes, after: ImageState) -> None:
    """Compare all of an image that was read again with what it held before and what should have changed.

    The one thing that may differ besides: QuPath's own reading and saving adds steps of `OWN_STEPS` to the workflow.

    Args:
        image: What messages call the image.
        before: What it held.
        changes: What should have changed.
        after: What it holds, read from the written file.

    Raises:
        ProjectError: anything is missing, too much, or different.
    """
    problems = list(_problems(before, changes, after))
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ProjectError(
            f"{image}: what QuPath wrote is not what it was given: {'; '.join(problems[:3])}{more}. The image was "
            "left as it was. Please report this with the QuPath version."
        )


def _problems(before: ImageState, changes: Changes, after: ImageState) -> Iterator[str]:
    removed = {identifier: before.objects[identifier].parent for identifier in changes.remove & before.objects.keys()}
    added = {result.identifier: (result, outline) for result, outline in changes.add}
    expected = before.objects.keys() - removed.keys() | added.keys()
    if len(after.objects) != len(expected):
        yield f"expected {len(expected)} objects, got {len(after.objects)}"
    for identifier in expected - after.objects.keys():
        name = f"annotation {identifier} ({added[identifier][0].class_name})" if identifier in added else None
        yield f"the {name or f'{before.objects[identifier].kind} {identifier} that was there before'} is missing"
    for identifier in after.objects.keys() - expected:
        yield f"the {after.objects[identifier].kind} {identifier} should not be there"
    for identifier in (before.objects.keys() - removed.keys()) & after.objects.keys():
        yield from _compare_kept(identifier, before, changes, after, removed)
    for identifier in added.keys() & after.objects.keys():
        yield from _compare_added(*added[identifier], after, removed)
    yield from _compare_image(before, after)


def _compare_kept(
    identifier: str, before: ImageState, changes: Changes, after: ImageState, removed: dict[str, str | None]
) -> Iterator[str]:
    was, found = before.objects[identifier], after.objects[identifier]
    label = f"the {was.kind} {identifier} that was there before"
    class_name = changes.rename.get(identifier, was.class_name)
    if found.class_name != class_name:
        yield f"{label} has the class {found.class_name}, expected {class_name}"
    if found.parent != _moved_up(was.parent, removed):
        yield f"{label} has another parent"
    if (found.kind, found.rest) != (was.kind, was.rest):
        yield f"{label} is different (its shape, name, measurements, metadata or colour)"


def _compare_added(
    expected: Result, outline: Outline, after: ImageState, removed: dict[str, str | None]
) -> Iterator[str]:
    label = f"annotation {expected.identifier}"
    if expected.identifier not in after.results:
        yield f"{label} does not say which run made it"
        return
    found, measurements = after.results[expected.identifier]
    tolerance = _ROUNDING_PX * max(expected.length_px, 1)
    if abs(found.area_px - expected.area_px) > tolerance:
        yield f"{label} has {found.area_px:.2f} px², expected {expected.area_px:.2f}"
    have = (found.class_name, found.metadata, found.parent, found.z, found.t)
    want = (expected.class_name, expected.metadata, _moved_up(expected.parent, removed), expected.z, expected.t)
    if have != want:
        yield f"{label} has (class, metadata, parent, z, t) {have}, expected {want}"
    if measurements != dict(outline.measurements):
        yield f"{label} has the measurements {measurements}, expected {dict(outline.measurements)}"


def _compare_image(before: ImageState, after: ImageState) -> Iterator[str]:
    for name in before.facts.keys() | after.facts.keys():
        if before.facts.get(name) != after.facts.get(name):
            yield f"its {name} was {before.facts.get(name)}, is {after.facts.get(name)}"
    was, found = ([step for step in state.steps if step.name not in OWN_STEPS] for state in (before, after))
    if was != found or len(after.steps) < len(before.steps):
        yield f"its workflow had {len(before.steps)} steps, and has others now ({len(after.steps)})"


def _moved_up(parent: str | None, removed: dict[str, str | None]) -> str | None:
    """The nearest ancestor that is still there."""
    while parent in removed:
        parent = removed[parent]
    return parent
