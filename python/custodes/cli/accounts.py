"""``custodes accounts``: accounts and API tokens."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Engine

from custodes.accounts.resource_scope import ResourceScope
from custodes.accounts.roles import Permission, Role
from custodes.accounts.store import AccountStore
from custodes.accounts.tokens import TokenStore
from custodes.cli.encryption import keys_of
from custodes.cli.findings_session import ConfigPath
from custodes.cli.output import stdout, write_json
from custodes.config import Fault, FaultsError, parse_duration
from custodes.config.load import load_config
from custodes.database import open_database
from custodes.findings import rfc3339

app = typer.Typer(
    help="Manage accounts and API tokens. From the first account on, every user must sign in.", no_args_is_help=True
)


Resources = Annotated[
    list[str] | None,
    typer.Option(
        help="Resource whose events and people the account may see, e.g. 'hotel.*'; repeatable. Default: all ('*').",
        show_default=False,
    ),
]


@contextmanager
def _database(config: Path, what: str = "account") -> Iterator[Engine]:
    settings = load_config(config)
    engine = open_database(settings.findings.database, keys=keys_of(settings))
    try:
        yield engine
    except (KeyError, ValueError) as error:
        message = f"{what} not found: {error}" if isinstance(error, KeyError) else str(error)
        raise FaultsError([Fault(message)]) from error
    finally:
        engine.dispose()


@contextmanager
def _accounts(config: Path) -> Iterator[AccountStore]:
    with _database(config) as engine:
        yield AccountStore(engine)


def _password() -> str:
    """Prompts for a password on a terminal, else reads the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


@app.command()
def add(
    name: str,
    role: Annotated[Role, typer.Option(help="Role: a viewer sees no names; an auditor reads the audit trail.")],
    resource: Resources = None,
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Add an account. The password is prompted for, or read from the first line of standard input."""
    with _accounts(config) as accounts:
        accounts.add(name, role, _password(), int(time.time() * 1e6), ResourceScope.of(resource or ()))
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
        write_json(
            [
                {"name": one.name, "role": one.role, "disabled": one.is_disabled, "resources": one.reach.patterns}
                for one in found
            ]
        )
        return
    table = Table(box=None, header_style="bold")
    for column in ("name", "role", "resources", "may sign in"):
        table.add_column(column)
    for one in found:
        table.add_row(one.name, one.role, " ".join(one.reach.patterns) or "all", "no" if one.is_disabled else "yes")
    stdout.print(table)


@app.command()
def change(
    name: str,
    role: Annotated[Role | None, typer.Option(help="New role.", show_default=False)] = None,
    resource: Resources = None,
    password: Annotated[bool, typer.Option("--password", help="Set a new password, read as by add.")] = False,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Whether the account may sign in.", show_default=False)
    ] = None,
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Change an account and end its sessions. This also unlocks a locked account."""
    with _accounts(config) as accounts:
        reach = None if resource is None else ResourceScope.of(resource)
        accounts.change(name, role=role, reach=reach, password=_password() if password else None, disable=disable)
    stdout.print(f"{name} is changed, and must sign in again", markup=False)


@app.command()
def token(
    name: str,
    label: Annotated[str, typer.Option(help="Name of the program that uses the token.")],
    expires: Annotated[str, typer.Option(help="Validity period.")] = "90d",
    may: Annotated[
        list[Permission] | None,
        typer.Option(
            help="Permission of the token, among those of the account; repeatable. Default: all of them.",
            show_default=False,
        ),
    ] = None,
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Create an API token for a program that acts as an account. The token is shown only once."""
    now = int(time.time() * 1e6)
    with _database(config) as engine:
        validity = parse_duration(expires) // timedelta(microseconds=1)
        created = TokenStore(engine).add(name, label, may or [], now, now + validity)
    stdout.print(created, markup=False)


@app.command("tokens")
def tokens_(
    config: ConfigPath = Path("custodes.yaml"),
    json: Annotated[bool, typer.Option("--json", help="The tokens as a JSON array.")] = False,
) -> None:
    """List tokens with the time of their last use."""
    with _database(config) as engine:
        found = TokenStore(engine).list()
    if json:
        write_json([one.as_dict() for one in found])
        return
    table = Table(box=None, header_style="bold")
    for column in ("label", "account", "may", "expires", "last used"):
        table.add_column(column)
    for one in found:
        table.add_row(
            one.label,
            one.account,
            " ".join(sorted(one.permissions)),
            rfc3339(one.expires_at),
            rfc3339(one.seen_at) or "–",
        )
    stdout.print(table)


@app.command()
def revoke(label: str, config: ConfigPath = Path("custodes.yaml")) -> None:
    """Revoke a token immediately."""
    with _database(config, "token") as engine:
        TokenStore(engine).revoke(label)
    stdout.print(f"{label} is revoked", markup=False)
