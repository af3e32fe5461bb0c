"""``custodes dead-letters``: prints rejected records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from custodes.cli.encryption import keys_of
from custodes.cli.output import print_faults, write_json
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.sources.dead_letters import read_line


def dead_letters(
    file: Annotated[
        Path | None, typer.Argument(help="Dead-letter file. Default: that of the configuration.", show_default=False)
    ] = None,
    config: Annotated[Path, typer.Option("-c", "--config", help="Configuration file.")] = Path("custodes.yaml"),
) -> None:
    """Print rejected records with position and reason, one JSON object per line. Encrypted records are decrypted.

    Unreadable lines are reported on standard error, and the exit code is 1; all other lines are printed.
    """
    settings = load_config(config)
    keys = keys_of(settings)
    path = file or settings.dead_letter.file
    faults = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    write_json(read_line(line, keys))
                except (OSError, ValueError) as error:
                    faults.append(Fault(str(error), str(path), line=number))
    except OSError as error:
        raise FaultsError([Fault(f"{path} cannot be read: {error.strerror}", hint="name the file")]) from error
    if faults:
        print_faults(faults)
        raise typer.Exit(1)
