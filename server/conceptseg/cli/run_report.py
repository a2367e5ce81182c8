"""What a run over a project tells: to people as bars and a table, to programs as one JSON object per line."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from conceptseg.cli.console import plain_console
from conceptseg.domain.per_file import PerFile
from conceptseg.pipeline.batch import Image, ImageProgress, ImageStarted, Outcome, RunEvent, RunStarted, Tell


class RunReport:
    """Says what happens."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._run = ""
        self._told = PerFile()

    def line(self, text: str, *, event: str, **facts: object) -> None:
        """Say something that is no problem."""
        if self._as_json:
            click.echo(json.dumps({"event": event, **facts}, ensure_ascii=False))
        elif not self._quiet:
            click.echo(text)

    def warning(self, text: str) -> None:
        """Say something that the user should know."""
        if self._as_json:
            click.echo(json.dumps({"event": "warning", "message": text}, ensure_ascii=False))
        click.echo(text, err=True)

    @contextmanager
    def watch(self) -> Iterator[Tell]:
        """Yield what to tell the events of a run; on a terminal, bars for all images and for each one in work."""
        if self._quiet or self._as_json or not sys.stderr.isatty():
            yield self._say
            return
        columns = (
            TextColumn("{task.description:>20.20}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            overall = bars.add_task("images", total=None)
            working = {}

            def tell(event: RunEvent) -> None:
                if isinstance(event, RunStarted):
                    bars.update(overall, total=len(event.images))
                elif isinstance(event, ImageStarted) and event.image not in working:
                    working[event.image] = bars.add_task(event.image.name, total=1)
                elif isinstance(event, ImageProgress):
                    bars.update(working[event.image], completed=event.progress.done, total=event.progress.total)
                elif isinstance(event, Outcome):
                    bars.advance(overall)
                    if event.image in working:
                        bars.remove_task(working.pop(event.image))
                self._say(event)

            yield tell

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """Say what became of every image."""
        counts: Counter[str] = Counter(outcome.state for outcome in outcomes)
        if self._as_json:
            self.line("", event="summary", run=self._run, images=len(outcomes), **counts)
            return
        if self._quiet:
            return
        if not outcomes:
            click.echo("There is nothing to do.")
            return
        table = Table()
        for column in ("Image", "Result"):
            table.add_column(column)
        for column in ("Polygons", "Replaced", "Segmenting s", "Writing s"):
            table.add_column(column, justify="right")
        for outcome in outcomes:
            table.add_row(
                outcome.image.name,
                outcome.state,
                str(outcome.polygons),
                str(outcome.replaced),
                f"{outcome.segment_seconds:.1f}",
                f"{outcome.write_seconds:.1f}",
            )
        plain_console().print(table)
        click.echo(", ".join(f"{count} {state}" for state, count in counts.items()))

    def _say(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._run = event.run
            if event.moved:
                self.line(f"{event.moved} slides are now looked for elsewhere.", event="rebased", images=event.moved)
            for warning in event.warnings:
                self.warning(warning)
        elif isinstance(event, ImageStarted):
            if event.reviewed:
                self.warning(
                    f"{event.image.name}: results that a person reviewed and that will be replaced: {event.reviewed}. "
                    "To keep them: --rerun skip or add. The image as it was stays in .conceptseg/backup."
                )
            if self._as_json:
                self.line("", event="started", **_named(event.image), reviewed=event.reviewed)
        elif isinstance(event, Outcome) and self._as_json:
            self.line("", event="finished", **_facts(event))
        elif isinstance(event, Outcome) and event.state == "failed":
            click.echo(self._told.line(event.image.name, event.message, what="failed"), err=True)
        elif isinstance(event, Outcome) and event.state == "done" and event.message:
            click.echo(self._told.line(event.image.name, event.message), err=True)
        elif isinstance(event, Outcome) and event.state == "empty" and event.message:
            click.echo(self._told.line(event.image.name, event.message, what="empty"), err=True)
        if isinstance(event, Outcome):
            self._remarks(event)

    def _remarks(self, outcome: Outcome) -> None:
        for remark in outcome.remarks:
            self.warning(remark)


def _named(image: Image) -> dict[str, object]:
    return {"image": image.name, "id": image.identifier}


def _facts(outcome: Outcome) -> dict[str, object]:
    return {
        **_named(outcome.image),
        "state": outcome.state,
        "message": outcome.message,
        "polygons": outcome.polygons,
        "replaced": outcome.replaced,
        "segment_seconds": round(outcome.segment_seconds, 3),
        "write_seconds": round(outcome.write_seconds, 3),
    }
