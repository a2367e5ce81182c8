"""Test tiers: what a marked test needs, and what this machine has.

A marked test is skipped where the machine lacks what it needs, and the run's last lines say so, so that a
green run never hides that a tier did not run.
"""

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from shapely import Polygon, box

from conceptseg.domain.classes import ConceptClass, default_classes
from conceptseg.domain.labels import LabelMap, label_dtype
from conceptseg.domain.polygons import ConceptPolygon
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.pipeline.result import ConceptSummary, SegmentationResult
from conceptseg.qupath.locate import find_qupath_installations

SHARED_DATA = Path(os.environ.get("CONCEPTSEG_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data").resolve()
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")


def _has_gpu() -> bool:
    import torch  # slow to import, so only where a test asks for it

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _has_browser() -> bool:
    chromium = any(shutil.which(name) for name in CHROMIUM_NAMES)
    return bool(chromium and shutil.which("chromedriver") and importlib.util.find_spec("selenium"))


# Marker -> what it needs, in words, and whether this machine has it.
TIERS: dict[str, tuple[str, Callable[[], bool]]] = {
    "shared": ("the shared development data (CONCEPTSEG_SHARED_DATA)", SHARED_DATA.is_dir),
    "qupath": ("a QuPath installation (PAQUO_QUPATH_DIR)", lambda: bool(find_qupath_installations())),
    "gpu": ("a GPU", _has_gpu),
    "ray": ("ray (pip install 'conceptseg[ray]')", lambda: importlib.util.find_spec("ray") is not None),
    "browser": ("Chromium, chromedriver beside it and selenium (Debian: chromium-driver)", _has_browser),
}
_available = cache(lambda tier: TIERS[tier][1]())
_tiers_of_test = pytest.StashKey[dict[str, set[str]]]()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared development data beside the checkout; a test that uses it is in the tier ``shared``."""
    return SHARED_DATA


@pytest.fixture(scope="session")
def make_result() -> Callable[..., SegmentationResult]:
    """Builds a result by hand: polygons by concept, everything else with a default that can be replaced."""
    return _make_result


@pytest.fixture
def disk_order(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was put on disk and what was renamed, in order: ("sync" or "rename", inode)."""
    order: list[tuple[str, int]] = []
    sync, rename, replace = os.fsync, os.rename, os.replace

    def note_sync(descriptor: int) -> None:
        order.append(("sync", os.fstat(descriptor).st_ino))
        sync(descriptor)

    def note(move: Callable[..., None]) -> Callable[..., None]:
        def noted(source: Path, target: Path) -> None:
            order.append(("rename", Path(source).stat().st_ino))
            move(source, target)

        return noted

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note(rename))
    monkeypatch.setattr(os, "replace", note(replace))
    return order


def _make_result(
    outlines: Sequence[tuple[int, Polygon]] = ((0, box(0, 0, 60, 80)), (1, box(60, 0, 100, 80))),
    *,
    classes: Sequence[ConceptClass] | None = None,
    region: Region | None = None,
    grid_width: int = 50,
    grid_height: int = 40,
    full_pixel_size_um: float = 0.5,
    measurements: dict[str, float] | None = None,
    **others: object,
) -> SegmentationResult:
    region = region or Region(x=0, y=0, width=100, height=80)
    classes = classes or default_classes(max((concept for concept, _ in outlines), default=0) + 1)
    downsample = 0.5 * (region.width / grid_width + region.height / grid_height)
    grid = PixelGrid(region=region, width=grid_width, height=grid_height, pixel_size_um=full_pixel_size_um * downsample)
    area_px = [sum(p.area for concept, p in outlines if concept == c.concept) for c in classes]
    summaries = [
        ConceptSummary(
            concept_class=c,
            area_um2=px * full_pixel_size_um**2,
            area_percent=100 * px / (sum(area_px) or 1),
            polygons=sum(concept == c.concept for concept, _ in outlines),
            mean_activation=0.5 if px else 0.0,
        )
        for c, px in zip(classes, area_px, strict=True)
    ]
    defaults: dict[str, object] = {
        "run_id": "run-1",
        "image": "slide.svs",
        "label_map": LabelMap(
            labels=np.zeros((grid_height, grid_width), label_dtype(len(classes))),
            grid=grid,
            n_concepts=len(classes),
        ),
        "polygons": tuple(
            ConceptPolygon(concept=concept, polygon=p, measurements=measurements or {"Area µm^2": p.area / 4})
            for concept, p in outlines
        ),
        "concepts": tuple(summaries),
        "encoder": "default",
        "dictionary": "demo-k2",
        "method": "projection",
        "relative_residual": 0.25,
        "seconds": {"encode": 1.5, "total": 2.0},
    }
    return SegmentationResult(**(defaults | others))


def pytest_itemcollected(item: pytest.Item) -> None:
    if "shared_data" in getattr(item, "fixturenames", ()):
        item.add_marker("shared")


@pytest.hookimpl(trylast=True)  # after tests were deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tiers = config.stash.setdefault(_tiers_of_test, {})
    for item in items:
        tiers[item.nodeid] = {mark.name for mark in item.iter_markers() if mark.name in TIERS}
        for tier in sorted(tiers[item.nodeid]):
            if not _available(tier):
                item.add_marker(pytest.mark.skip(reason=f"needs {TIERS[tier][0]}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in tier_lines(terminalreporter.stats, config.stash.get(_tiers_of_test, {})):
        terminalreporter.write_line(line)


def tier_lines(stats: dict[str, list], tiers_of_test: dict[str, set[str]]) -> Iterator[str]:
    """One line per tier: how many of its tests ran, and how many were skipped for want of what.

    Tests that were skipped for another reason, and files that were skipped as a whole, are told too.
    """
    ran: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    others: Counter[tuple[str, str]] = Counter()
    # A test can have several reports (its call, and a failing teardown), so count tests, not reports.
    reasons = {r.nodeid: _reason(r) for r in stats.get("skipped", ())}
    ran_tests = {r.nodeid for key in ("passed", "failed", "error", "xfailed", "xpassed") for r in stats.get(key, ())}
    for test, tiers in tiers_of_test.items():
        for tier in tiers:
            if test in reasons and not _available(tier):
                skipped[tier] += 1
            elif test in reasons and all(_available(other) for other in tiers):
                others[tier, reasons[test]] += 1
            elif test in ran_tests:
                ran[tier] += 1
    for tier, (needs, _) in TIERS.items():
        parts = [f"{skipped[tier]} skipped for want of {needs}"] if skipped[tier] else []
        parts += [f"{count} skipped: {reason}" for (other, reason), count in others.items() if other == tier]
        yield f"{tier}: {ran[tier]} ran, {', '.join(parts) or '0 skipped'}"
    for nodeid, reason in reasons.items():
        if "::" not in nodeid:
            yield f"{nodeid}: skipped as a whole: {reason}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
