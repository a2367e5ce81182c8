"""Measurements that need a process of their own: peak memory is that of a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from conceptseg.domain.errors import ConceptSegError, InvalidRequestError


def measured_apart(
    module: str, *arguments: object, python: Path | None = None, packages: Path | None = None
) -> dict[str, Any]:
    """What ``python -m MODULE ARGUMENTS`` prints last, as JSON.

    Args:
        module: Name of the module.
        arguments: As text; mappings as JSON.
        python: Another interpreter than this one.
        packages: Folder with packages that it does not have.

    Raises:
        InvalidRequestError: there is no such interpreter.
        ConceptSegError: it failed; the message holds the end of what it said.
    """
    words = [json.dumps(word) if isinstance(word, dict) else str(word) for word in arguments]
    command = [str(python or sys.executable), "-m", module, *words]
    environment = os.environ | ({"PYTHONPATH": str(packages)} if packages else {})
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    except OSError as error:
        raise InvalidRequestError(f"Cannot run {command[0]}: {error.strerror}. Expected a Python.") from error
    if done.returncode:
        raise ConceptSegError(f"{' '.join(command[1:])} failed: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_gib() -> float:
    """Peak resident memory of this process in GiB."""
    status = Path("/proc/self/status")
    if status.exists():  # not ru_maxrss, which starts at the size of the process that forked this one
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert peak is not None
        return int(peak[1]) / 2**20
    memory = psutil.Process().memory_info()
    return float(getattr(memory, "peak_wset", memory.rss)) / 2**30  # Windows has a peak; elsewhere what it is now
