"""``custodes keys``: the keys by which files and the database are encrypted."""

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

app = typer.Typer(help="The keys by which files and the database are encrypted.", no_args_is_help=True)

KeysConfigPath = Annotated[Path, typer.Option("-c", "--config", help="Configuration file: it says where the keys are.")]

_KEY = re.compile(rb"CUSTCRPT\x01(?P<length>(?s:.))(?P<name>[a-z0-9-]{1,64})")
"""How what is encrypted begins in a file (``rust/cipher``)."""


@app.command()
def add(name: str, config: KeysConfigPath = Path("custodes.yaml")) -> None:
    """Make a key, by which everything is encrypted from the next start on; the others stay, for what there is."""
    with _faults():
        path = _path(load_config(config))
        add_key(path, name)
    stdout.print(f"{name} is in {path}, as the first: restart what reads it", markup=False)


@app.command("list")
def list_(
    config: KeysConfigPath = Path("custodes.yaml"),
    json: Annotated[bool, typer.Option("--json", help="The keys as a JSON array.")] = False,
) -> None:
    """List the keys, and what is encrypted by each: one by which nothing is can go."""
    settings = load_config(config)
    keys = keys_of(settings)
    used = _used(settings, keys)
    told = [
        {"name": name, "writes": name == keys.current, **{place: used[place][name] for place in used}}
        for name in keys.names
    ]
    if json:
        write_json(told)
        return
    table = Table(box=None, header_style="bold")
    for column in ("key", "writes", *used):
        table.add_column(column)
    for one in told:
        table.add_row(str(one["name"]), "yes" if one["writes"] else "", *(f"{one[place]:,}" for place in used))
    stdout.print(table)


@app.command()
def reencrypt(config: KeysConfigPath = Path("custodes.yaml")) -> None:
    """Encrypt the database and the history by the first key, what was not encrypted included.

    The monitor must not run. Snapshots are others within the hour; evidence keeps its keys for as long as it is kept.
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
    force: Annotated[bool, typer.Option("--force", help="Though things are encrypted by it: they are lost.")] = False,
    config: KeysConfigPath = Path("custodes.yaml"),
) -> None:
    """Let go of a key by which nothing is encrypted any more."""
    settings = load_config(config)
    with _faults():
        path = _path(settings)
        keys = keys_of(settings)
        if name == keys.current:
            raise ValueError(f"'{name}' is the key for what is written: add another first")
        used = {place: counts[name] for place, counts in _used(settings, keys).items() if counts[name]}
        if used and not force:
            what = ", ".join(f"{count:,} of {place}" for place, count in used.items())
            raise ValueError(f"'{name}' is still needed: {what}; reencrypt, wait, or --force and lose them")
        remove_key(path, name)
    stdout.print(f"{name} is gone from {path}", markup=False)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise FaultsError([Fault(f"there is no key {error}")]) from error
    except (OSError, ValueError) as error:
        raise FaultsError([Fault(str(error))]) from error


def _path(settings: Config) -> Path:
    if settings.encryption is None:
        raise FaultsError([Fault("nothing is encrypted", hint="set encryption.keys to where the keys are to be")])
    return settings.encryption.keys


@contextmanager
def _database(settings: Config, keys: Keys) -> Iterator[Engine]:
    engine = open_database(settings.findings.database, keys=keys)
    try:
        yield engine
    finally:
        engine.dispose()


def _used(settings: Config, keys: Keys) -> dict[str, Counter[str]]:
    """By place and by key, how many rows or files are encrypted."""
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
    """The names of the keys by which parts of a file are encrypted."""
    found = _KEY.finditer(file.read_bytes())
    return set(map(_name, found))


def _name(match: re.Match[bytes]) -> str:
    return match["name"][: match["length"][0]].decode()


def _encrypt_file(folder: LocalFolder, name: str, keys: Keys) -> bool:
    """Has a file encrypted by the key of now; returns whether it was not."""
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
