"""Whether an image holds after a change exactly what it should."""

from __future__ import annotations

from collections.abc import Iterator

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.project.contents import Changes, ImageContents, Result

_ROUNDING_PX = 0.02
"""QuPath keeps hundredths of a px, and float32 coordinates of simple outlines: how far an edge may move."""


def verify(image: str, *, before: ImageContents, changes: Changes, after: ImageContents) -> None:
    """Compare an image that was read again with what it held before and what should have changed.

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


def _problems(before: ImageContents, changes: Changes, after: ImageContents) -> Iterator[str]:
    expected_count = before.object_count - len(changes.remove) + len(changes.add)
    if after.object_count != expected_count:
        yield f"expected {expected_count} objects, got {after.object_count}"
    removed = {result.identifier: result.parent for result in before.results if result.identifier in changes.remove}
    yield from _compare_areas(before, after, removed)
    expected = {r.identifier: r for r in before.results if r.identifier not in removed} | {
        result.identifier: result for result, _ in changes.add
    }
    found = {result.identifier: result for result in after.results}
    for identifier in expected.keys() - found.keys():
        yield f"annotation {identifier} ({expected[identifier].class_name}) is missing"
    for identifier in found.keys() - expected.keys():
        yield f"annotation {identifier} ({found[identifier].class_name}) should be gone"
    for identifier in expected.keys() & found.keys():
        class_name = changes.rename.get(identifier, expected[identifier].class_name)
        yield from _compare_result(expected[identifier], found[identifier], class_name, removed)


def _compare_areas(before: ImageContents, after: ImageContents, removed: dict[str, str | None]) -> Iterator[str]:
    found = {area.identifier: area for area in after.areas}
    for area in before.areas:
        other = found.pop(area.identifier, None)
        if other is None or other.fingerprint != area.fingerprint:
            yield f"the annotation {area.identifier} that was there before is {'different' if other else 'missing'}"
        elif other.parent != _moved_up(area.parent, removed):
            yield f"the annotation {area.identifier} that was there before has another parent"
    for unknown in found:
        yield f"there is an unknown annotation {unknown}"


def _compare_result(expected: Result, found: Result, class_name: str, removed: dict[str, str | None]) -> Iterator[str]:
    tolerance = _ROUNDING_PX * max(expected.length_px, 1)
    if abs(found.area_px - expected.area_px) > tolerance:
        yield f"annotation {found.identifier} has {found.area_px:.2f} px², expected {expected.area_px:.2f}"
    have = (found.class_name, found.run, found.dictionary, _concepts(found), found.parent)
    want = (
        class_name,
        expected.run,
        expected.dictionary,
        _concepts(expected),
        _moved_up(expected.parent, removed),
    )
    if have != want:
        yield f"annotation {found.identifier} has (class, run, dictionary, concepts, parent) {have}, expected {want}"


def _concepts(result: Result) -> tuple[object, ...]:
    return result.found, result.reassigned, result.review


def _moved_up(parent: str | None, removed: dict[str, str | None]) -> str | None:
    """The nearest ancestor that is still there."""
    while parent in removed:
        parent = removed[parent]
    return parent
