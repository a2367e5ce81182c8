"""Progress bars on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from conceptseg.domain.progress import Progress, ReportProgress, report_nothing


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[ReportProgress]:
    """Yield a progress callback that draws one bar per stage on standard error."""
    if quiet or not sys.stderr.isatty():
        yield report_nothing
        return
    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        stages = {}

        def report(progress: Progress) -> None:
            if progress.stage not in stages:
                stages[progress.stage] = bars.add_task(progress.stage, total=progress.total)
            bars.update(stages[progress.stage], completed=progress.done, total=progress.total)

        yield report
