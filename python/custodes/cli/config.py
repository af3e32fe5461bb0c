"""``custodes config``: what can be configured."""

from __future__ import annotations

import typer

from custodes.cli.output import write_json
from custodes.config.model import Config

app = typer.Typer(help="What can be configured.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print custodes.yaml's JSON Schema, for editors that complete and check YAML."""
    write_json(Config.model_json_schema())


@app.callback()
def _config() -> None:
    """What can be configured."""
