"""``custodes keys``: manages the encryption keys of files and database."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Engine

from custodes.cli.encryption import keys_of
from custodes.cli.output import stdout, write_json
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.config.model import Config
from custodes.database import open_database
from custodes.database.reencryption import encrypt_anew, rows_by_key, wipe
from custodes.database.tables import metadata
from custodes.encryption.keys import Keys, add_key, remove_key
from custodes.state import FolderInUseError, LocalFolder

app = typer.Typer(help="Manage the encryption keys of files and database.", no_args_is_help=True)

KeysConfigPath = Annotated[Path, typer.Option("-c", "--config", help="Configuration file, which names the key file.")]

_KEY = re.compile(rb"CUSTCRPT\x01(?P<length>(?s:.))(?P<name>[a-z0-9-]{1,64})")
"""Header of encrypted data in files (``rust/cipher``)."""


@app.command()
def add(name: str, config: KeysConfigPath = Path("custodes.yaml")) -> None:
    """Create a key that encrypts all new data from the next start on. The other keys still decrypt existing data."""
    with _faults():
        path = _path(load_config(config))
        add_key(path, name)
    stdout.print(f"{name} is the first key in {path}: restart the processes that use it", markup=False)


@app.command("list")
def list_(
    config: KeysConfigPath = Path("custodes.yaml"),
    json: Annotated[bool, typer.Option("--json", help="The keys as a JSON array.")] = False,
) -> None:
    """List the keys with the amount of data encrypted by each. A key without data can be removed."""
    settings = load_config(config)
    keys = keys_of(settings)
    used = _used(settings, keys)
    listed = [
        {"name": name, "writes": name == keys.current, **{place: used[place][name] for place in used}}
        for name in keys.names
    ]
    if json:
        write_json(listed)
        return
    table = Table(box=None, header_style="bold")
    for column in ("key", "writes", *used):
        table.add_column(column)
    for one in listed:
        table.add_row(str(one["name"]), "yes" if one["writes"] else "", *(f"{one[place]:,}" for place in used))
    stdout.print(table)


@app.command()
def reencrypt(config: KeysConfigPath = Path("custodes.yaml")) -> None:
    """Re-encrypt the database and the history with the first key, including data that was not encrypted.

    The monitor must be stopped. Snapshots are replaced within an hour; evidence keeps its keys until it expires.
    """
    settings = load_config(config)
    keys = keys_of(settings)
    with _database(settings, keys) as engine:
        for table in metadata.sorted_tables:
            with engine.begin() as connection:
                if rows := encrypt_anew(connection, table):
                    stdout.print(f"{table.name}: {rows:,} rows", markup=False)
        wipe(engine)
    if settings.history is not None:
        try:
            folder = LocalFolder(settings.history.folder)
        except FolderInUseError as error:
            raise FaultsError([Fault(str(error), hint="stop the monitor first")]) from error
        with closing(folder):
            files = sum(_encrypt_file(folder, name, keys) for name in folder.names() if name.endswith(".parquet"))
            folder.sync()
        stdout.print(f"history: {files:,} files", markup=False)


@app.command()
def remove(
    name: str,
    force: Annotated[
        bool, typer.Option("--force", help="Remove the key even if data is encrypted with it; this data is lost.")
    ] = False,
    config: KeysConfigPath = Path("custodes.yaml"),
) -> None:
    """Remove a key that no data is encrypted with."""
    settings = load_config(config)
    with _faults():
        path = _path(settings)
        keys = keys_of(settings)
        if name == keys.current:
            raise ValueError(f"'{name}' encrypts new data: add another key first")
        used = {place: counts[name] for place, counts in _used(settings, keys).items() if counts[name]}
        if used and not force:
            what = ", ".join(f"{count:,} of {place}" for place, count in used.items())
            raise ValueError(f"'{name}' is still needed: {what}; run reencrypt, wait, or use --force and lose them")
        remove_key(path, name)
    stdout.print(f"{name} is removed from {path}", markup=False)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise FaultsError([Fault(f"key not found: {error}")]) from error
    except (OSError, ValueError) as error:
        raise FaultsError([Fault(str(error))]) from error


def _path(settings: Config) -> Path:
    if settings.encryption is None:
        raise FaultsError(
            [Fault("encryption is not configured", hint="set encryption.keys to the path of the key file")]
        )
    return settings.encryption.keys


@contextmanager
def _database(settings: Config, keys: Keys) -> Iterator[Engine]:
    engine = open_database(settings.findings.database, keys=keys)
    try:
        yield engine
    finally:
        engine.dispose()


def _used(settings: Config, keys: Keys) -> dict[str, Counter[str]]:
    """Counts encrypted rows or files, by storage and key."""
    found = {"database": Counter[str]()}
    with _database(settings, keys) as engine, engine.connect() as connection:
        for table in metadata.sorted_tables:
            found["database"] += rows_by_key(connection, table, keys.names)
    places = {"state": (settings.state.folder, "*.snapshot")}
    if settings.history is not None:
        places["history"] = (settings.history.folder, "*.parquet")
    if settings.evidence is not None:
        places["evidence"] = (settings.evidence.folder, "*.evidence")
    for place, (folder, pattern) in places.items():
        found[place] = Counter(name for file in folder.glob(pattern) for name in _keys_in(file))
    return found


def _keys_in(file: Path) -> set[str]:
    """Returns the names of the keys that encrypt parts of a file."""
    found = _KEY.finditer(file.read_bytes())
    return set(map(_name, found))


def _name(match: re.Match[bytes]) -> str:
    return match["name"][: match["length"][0]].decode()


def _encrypt_file(folder: LocalFolder, name: str, keys: Keys) -> bool:
    """Encrypts a file with the current key; returns whether it was changed."""
    with folder.open(name) as file:
        data = file.read()
    match = _KEY.match(data)
    if match and _name(match) == keys.current:
        return False
    fresh = f"{name}.new"
    output = folder.create(fresh)
    try:
        output.write(keys.files.encrypt(keys.files.decrypt(data)))
        output.sync()
    finally:
        output.close()
    folder.rename(fresh, name)
    return True
