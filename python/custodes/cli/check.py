"""``custodes check``: finds faults in configuration, rules and environment before the start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from custodes.accounts.oidc import OidcError
from custodes.cli.encryption import keys_of
from custodes.cli.identity_provider import provider_of
from custodes.cli.output import print_faults, stdout, write_json
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.config.mapping import load_mapping
from custodes.config.model import Config, TableTopicSettings
from custodes.rules import load_rules, sharing_faults, shipped_pack
from custodes.sources.client import unknown_settings
from custodes.sources.kafka import reachable
from custodes.sources.lookup_tables import LookupTables, csv_files


def check(
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Configuration to check.", show_default=False)
    ] = None,
    rules: Annotated[
        list[Path] | None,
        typer.Option(help="Check only these rule files or directories.", show_default=False),
    ] = None,
    offline: Annotated[bool, typer.Option(help="Do not contact brokers or the identity provider.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print faults as a JSON array on standard output.")] = False,
) -> None:
    """Check configuration, rules, mapping, tables, files and connections. Exit 2 for faults, 1 if unreachable."""
    if (config is None) == (not rules):
        raise typer.BadParameter("give -c FILE, or --rules PATH")
    loaded, faults, checked = _check_files(config, rules or [])
    unreachable = [] if loaded is None or offline else _check_reachability(loaded)
    if json:
        write_json([fault.as_dict() for fault in (*faults, *unreachable)])
    else:
        print_faults((*faults, *unreachable))
    if faults:
        raise typer.Exit(2)
    if unreachable:
        raise typer.Exit(1)
    if not json:
        stdout.print(f"ok: {checked} rules")


def _check_files(config: Path | None, rules: list[Path]) -> tuple[Config | None, list[Fault], int]:
    """Returns the configuration if it is valid, the faults in the files, and the number of valid rules."""
    faults: list[Fault] = []
    loaded: Config | None = None
    if config is not None:
        try:
            loaded = load_config(config)
        except FaultsError as error:
            return None, error.faults, 0
        rules = loaded.rules or list(shipped_pack())
        faults += _check_places(loaded)
    try:
        known = load_rules(rules)
    except FaultsError as error:
        return loaded, faults + error.faults, 0
    if loaded is not None and loaded.workers is not None and loaded.rules:
        faults += sharing_faults(known, frozenset(loaded.workers.keyed_by)).values()
    return loaded, faults, len(known)


def _check_places(config: Config) -> list[Fault]:
    faults: list[Fault] = []
    try:
        mapping = load_mapping(config.mapping, config.event_time.zone)
        files = {name: table for name, table in config.tables.items() if isinstance(table, Path)}
        LookupTables().load(csv_files(files), mapping.table_uses())
    except FaultsError as error:
        faults += error.faults
    try:
        keys_of(config)
    except FaultsError as error:
        faults += error.faults
    if config.source.kafka is not None:
        faults += unknown_settings(config.source.kafka)
    if config.source.file is not None:
        for path in config.source.file.paths:
            if str(path) != "-" and not path.is_file():
                faults.append(Fault("no such file", str(path), hint="see source.file.paths"))
    folder = config.dead_letter.file.parent
    if not folder.is_dir():
        faults.append(Fault("no such directory", str(folder), hint="see dead_letter.file"))
    return faults


def _check_reachability(config: Config) -> list[Fault]:
    return [*_check_brokers(config), *_check_provider(config)]


def _check_provider(config: Config) -> list[Fault]:
    try:
        if provider := provider_of(config):
            provider.check()
    except FaultsError as error:
        return error.faults
    except OidcError as error:
        return [Fault(str(error), hint="see http.oidc.issuer")]
    return []


def _check_brokers(config: Config) -> list[Fault]:
    settings = config.source.kafka
    tables = [table.topic for table in config.tables.values() if isinstance(table, TableTopicSettings)]
    problem = reachable(settings, tables) if settings else None
    if settings is None or problem is None:
        return []
    servers = ", ".join(settings.bootstrap_servers)
    return [Fault(f"cannot reach Kafka at {servers}: {problem}", hint="see source.kafka.bootstrap_servers")]
