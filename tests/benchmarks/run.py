"""``make bench``: every benchmark in turn, printed as a table and written as JSON.

All ratios are ours against the baseline of the same run, so that larger is better; absolute times depend on the
machine and its load.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from conceptseg import __version__

SUITES = (
    "bench_polygons",
    "bench_segment",
    "bench_projection",
    "bench_planted",
    "bench_rpc",
    "bench_bad_clients",
    "bench_project",
    "bench_report",
)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "conceptseg": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    """Run the suites and write the results after each, so that an interrupted run keeps what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--only", choices=SUITES, nargs="*", default=SUITES)
    parser.add_argument("--after", type=Path, help="What `conceptseg bench` wrote: its results come first.")
    arguments = parser.parse_args()
    before = json.loads(arguments.after.read_text())["results"] if arguments.after else []
    report = {"machine": machine(), "results": before}
    for suite in arguments.only:
        started = time.perf_counter()
        for line in importlib.import_module(suite).measure():
            report["results"].append(line)
            arguments.json.write_text(json.dumps(report, indent=1))
            print(
                f"{line['name']:>32}  ours {line['ours']:.4g}  baseline {line['baseline']:.4g} {line['unit']}"
                f"  ratio {line['ratio']:.3g}",
                flush=True,
            )
            print(f"{'':>34}{json.dumps(line['detail'])}", flush=True)
        print(f"{suite}: {time.perf_counter() - started:.0f} s", flush=True)
    print(f"Wrote {arguments.json}")


if __name__ == "__main__":
    main()
