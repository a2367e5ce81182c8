"""The report of 20 slides × 32 concepts: seconds to build, size, and seconds to open, against what was promised."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from common import result, tissue

from conceptseg.cli.report_sources import file_evidence
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment
from conceptseg.qupath.geojson import write_geojson
from conceptseg.report.document import build
from conceptseg.report.page import write_page

SLIDES, CONCEPTS, SIDE_PX = 20, 32, 3072
BUILD_SECONDS, BYTES, OPEN_SECONDS = 60.0, 30e6, 3.0
_MB = 1e6


def measure() -> Iterator[dict[str, Any]]:
    """Yield building, size and opening; the baseline is the limit."""
    with tempfile.TemporaryDirectory() as folder:
        sources, what = _results(Path(folder))
        page = Path(folder) / "report.html"
        started = time.perf_counter()
        document = build(file_evidence(sources, images=(), pixel_size_um=None))
        write_page(page, document.content)
        seconds = time.perf_counter() - started
        polygons = sum(concept["polygons"] for concept in document.content["concepts"])
        detail = {"slides": SLIDES, "concepts": len(document.concepts), "polygons": polygons, "source": what}
        name = f"report {SLIDES} × {CONCEPTS}"
        yield result(f"{name}, build", ours=seconds, baseline=BUILD_SECONDS, **detail)
        yield result(f"{name}, size", ours=page.stat().st_size / _MB, baseline=BYTES / _MB, unit="MB")
        opened = _opened(page)
        if opened is not None:
            yield result(f"{name}, open", ours=opened["ready"], baseline=OPEN_SECONDS, **opened)


def _results(folder: Path) -> tuple[list[Path], str]:
    """Pyramids of real tissue, and their results beside them."""
    encoder = load_encoder("default", device="auto")
    dictionary = find_dictionary(encoder="default", name=None, k=CONCEPTS)
    pixels, what = tissue(SIDE_PX, SIDE_PX)
    sources = []
    for number in range(SLIDES):
        turned = np.rot90(pixels if number % 2 else pixels[::-1], number // 2 % 4)
        shifted = np.roll(turned, (251 * number, 397 * number), axis=(0, 1))
        path = folder / f"slide-{number:02d}.tif"
        _write_pyramid(path, np.ascontiguousarray(shifted))
        sources.append(_segmented(path, encoder, dictionary))
    return sources, f"{what}, turned and shifted, {SIDE_PX}² px"


def _write_pyramid(path: Path, pixels: np.ndarray) -> None:
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    size = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}  # 0.5 µm
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, subifds=2, **options, **size)
        for step in (4, 16):
            file.write(pixels[::step, ::step], subfiletype=1, **options)


def _segmented(path: Path, encoder: Encoder, dictionary: ConceptDictionary) -> Path:
    target = path.with_suffix(".geojson")
    with open_image(path) as reader:
        source = open_region(reader, region=None, pixel_size_um=dictionary.pixel_size_um, image_pixel_size_um=0.5)
        write_geojson(target, segment(source, encoder=encoder, dictionary=dictionary))
    return target


def _opened(page: Path) -> dict[str, Any] | None:
    """Seconds in Chromium as the browser counts them; None where there is no Chromium with its driver."""
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        return None
    driver_path, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver_path or not chromium:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1500,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        driver.get("about:blank")  # the browser itself has started
        driver.get(page.as_uri())
        ready = driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
        blank = driver.execute_script(
            """const end = document.body.scrollHeight;
            for (let y = 0; y < end; y += 800) { window.scrollTo(0, y); }
            return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"""
        )
        errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    finally:
        driver.quit()
    return {"ready": ready, "blank pictures": blank, "console errors": errors}
