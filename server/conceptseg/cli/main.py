"""The ``conceptseg`` command: finds the subcommand, turns errors into one line and an exit code.

Exit codes: 0 done; 1 an error the user can act on; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence

import click

from conceptseg import __version__
from conceptseg.domain.errors import ConceptSegError

_COMMANDS = {
    "segment": ("conceptseg.cli.segment", "Segment an image or a region of a slide into concept polygons."),
    "annotate": ("conceptseg.cli.annotate", "Segment every image of a QuPath project, and write the results into it."),
    "labels": ("conceptseg.cli.labels", "Name, merge, colour and ignore the concepts of a QuPath project."),
    "export": ("conceptseg.cli.export", "Write what a QuPath project holds as GeoJSON and as a table."),
    "report": ("conceptseg.cli.report", "Make a page that shows what every concept is, to name and review them in."),
    "concepts": ("conceptseg.cli.concepts", "List, show, fit, import and refine concept dictionaries."),
    "evaluate": ("conceptseg.cli.evaluate", "Measure how well concepts match masks."),
    "bench": ("conceptseg.cli.bench", "Measure speed on this machine, beside the bare encoder and the reference."),
    "encoders": ("conceptseg.cli.encoders", "List the encoders."),
    "doctor": ("conceptseg.cli.doctor", "Show versions, device, encoders, QuPath, and what is missing."),
    "qupath": ("conceptseg.cli.qupath", "Install ConceptSeg into QuPath, remove it, show what is there."),
    "serve": ("conceptseg.cli.serve", "Start the server that QuPath talks to."),
}


class _LazyGroup(click.Group):
    """Imports a subcommand when it is used: ``--help`` does not wait for torch."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="conceptseg")
def cli() -> None:
    """ConceptSeg: unsupervised tissue concepts for QuPath."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(arguments, prog_name="conceptseg", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        print("Interrupted; nothing was left half-written.", file=sys.stderr)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ConceptSegError as error:
        if "--json" in arguments:
            print(json.dumps({"error": {"type": type(error).__name__, "message": str(error)}}))
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
