"""The command line: ``custodes COMMAND``, with one module per command."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from custodes import __version__
from custodes.cli.output import print_faults, stderr
from custodes.config import FaultsError

_COMMANDS = {
    "demo": "custodes.cli.demo",
    "run": "custodes.cli.run",
    "check": "custodes.cli.check",
    "replay": "custodes.cli.replay",
    "rules": "custodes.cli.rules",
    "config": "custodes.cli.config",
    "snapshot": "custodes.cli.snapshot",
    "top": "custodes.cli.top",
    "findings": "custodes.cli.findings",
    "evidence": "custodes.cli.evidence",
    "alerts": "custodes.cli.alerts",
    "accounts": "custodes.cli.accounts",
    "keys": "custodes.cli.keys",
    "dead-letters": "custodes.cli.dead_letters",
}
"""Module of each command, with a function of that name or a Typer ``app``. A module is imported only when its command
runs, so that a replay does not wait for the import of the web server."""


class _Commands(TyperGroup):
    """Finds a command's module by its name."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(_COMMANDS[cmd_name])
        if not gc.isenabled():
            # The entry point disables garbage collection during the imports.
            gc.freeze()
            gc.enable()
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False)
            app.command(cmd_name)(getattr(module, cmd_name.replace("-", "_")))
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="custodes",
    cls=_Commands,
    help="Watches the people who are trusted to look at other people's records.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"custodes {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Watches the people who are trusted to look at other people's records.

    Exit codes: 0 done, 1 failure, 2 usage or configuration.
    """


def main() -> None:
    """Entry point: prints faults as messages instead of tracebacks."""
    try:
        app()
    except FaultsError as error:
        print_faults(error.faults)
        sys.exit(2)
    except BrokenPipeError:
        # The reader closed the pipe early, as `head` does. That is not a failure.
        sys.stderr.close()
        sys.exit(0)
    except (OSError, RuntimeError) as error:
        stderr.print(f"custodes: {error}", markup=False)
        sys.exit(1)
