"""Runs the installed command as a user does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from servers import CUSTODES


def custodes(
    *arguments: str | Path,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    env: dict[str, str] | None = None,
    as_anybody: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Runs ``custodes`` to its end; output is not a terminal. ``as_anybody`` drops root's right to read all files."""
    command: Sequence[str] = [str(CUSTODES), *map(str, arguments)]
    if as_anybody and os.geteuid() == 0:
        command = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search", *command]
    environment = {**os.environ, "NO_COLOR": "1", **(env or {})}
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, timeout=120, env=environment, check=False)
