"""``custodes accounts``: who may sign in."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from custodes.accounts.roles import Role
from custodes.accounts.store import AccountStore
from custodes.cli.output import stdout, write_json
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.database import open_database

app = typer.Typer(help="Who may sign in. With the first account nobody comes in without one.", no_args_is_help=True)

ConfigPath = Annotated[Path, typer.Option("-c", "--config", help="Configuration file: it says where the database is.")]


@contextmanager
def _accounts(config: Path) -> Iterator[AccountStore]:
    engine = open_database(load_config(config).findings.database)
    try:
        yield AccountStore(engine)
    except (KeyError, ValueError) as error:
        what = f"there is no account {error}" if isinstance(error, KeyError) else str(error)
        raise FaultsError([Fault(what)]) from error
    finally:
        engine.dispose()


def _password() -> str:
    """Asked for at a terminal; the first line of what is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


@app.command()
def add(
    name: str,
    role: Annotated[Role, typer.Option(help="What it is for: viewer sees no names, auditor reads who looked.")],
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Add an account. The password is asked for, or is the first line of standard input."""
    with _accounts(config) as accounts:
        accounts.add(name, role, _password(), int(time.time() * 1e6))
    stdout.print(f"{name} may sign in as {role}", markup=False)


@app.command("list")
def list_(
    config: ConfigPath = Path("custodes.yaml"),
    json: Annotated[bool, typer.Option("--json", help="The accounts as a JSON array.")] = False,
) -> None:
    """List accounts."""
    with _accounts(config) as accounts:
        found = accounts.list()
    if json:
        write_json([{"name": one.name, "role": one.role, "disabled": one.is_disabled} for one in found])
        return
    table = Table(box=None, header_style="bold")
    for column in ("name", "role", "may sign in"):
        table.add_column(column)
    for one in found:
        table.add_row(one.name, one.role, "no" if one.is_disabled else "yes")
    stdout.print(table)


@app.command()
def change(
    name: str,
    role: Annotated[Role | None, typer.Option(help="Another role.", show_default=False)] = None,
    password: Annotated[bool, typer.Option("--password", help="Another password, asked for as by add.")] = False,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Whether it may sign in.", show_default=False)
    ] = None,
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Change an account, and end its sessions. A locked one is free again."""
    with _accounts(config) as accounts:
        accounts.change(name, role=role, password=_password() if password else None, disable=disable)
    stdout.print(f"{name} is changed, and has to sign in again", markup=False)
