"""``custodes config``: the schema of the configuration."""

from __future__ import annotations

import typer

from custodes.cli.output import write_json
from custodes.config.model import Config

app = typer.Typer(help="Print the schema of the configuration.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of custodes.yaml, for completion and checks in editors."""
    write_json(Config.model_json_schema())


@app.callback()
def _config() -> None:
    """Print the schema of the configuration."""
