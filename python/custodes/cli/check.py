"""``custodes check``: finds faults in configuration, rules and environment before the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from custodes.accounts.oidc import OidcError
from custodes.authoring.sample import missing_fields
from custodes.cli.encryption import keys_of
from custodes.cli.identity_provider import provider_of
from custodes.cli.output import print_faults, print_warnings, stdout, write_json
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.config.mapping import load_mapping
from custodes.config.model import Config, TableTopicSettings
from custodes.database.connection import database_problem
from custodes.database.unusable import url_problem
from custodes.rules import LoadedRules, read_rules, sharing_faults, shipped_pack
from custodes.sources.client import setting_faults
from custodes.sources.kafka import reachable
from custodes.sources.lookup_tables import LookupTables, csv_files
from custodes.sources.replay import check_readable
from custodes.sources.secret_files import file_faults


@dataclass(frozen=True)
class _Checked:
    """The result of a check of all files."""

    config: Config | None = None
    """The configuration, if it is valid."""
    faults: Sequence[Fault] = ()
    warnings: Sequence[Fault] = ()
    rules: int = 0
    """Number of valid rules."""


def check(
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Configuration to check.", show_default=False)
    ] = None,
    rules: Annotated[
        list[Path] | None,
        typer.Option(help="Check only these rule files or directories.", show_default=False),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(help="File of events: warn of fields that rules read and no event has.", show_default=False),
    ] = None,
    mapping: Annotated[str, typer.Option(help="Mapping of the sample, without a configuration.")] = "custodes",
    offline: Annotated[bool, typer.Option(help="Do not contact brokers, database or identity provider.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print faults and warnings as a JSON array.")] = False,
) -> None:
    """Check configuration, rules, mapping, tables, files and connections. Exit 2 for faults, 1 if unreachable."""
    if (config is None) == (not rules):
        raise typer.BadParameter("give -c FILE, or --rules PATH")
    if sample is not None:
        check_readable([sample])
    checked = _check_files(config, rules or [], sample, mapping)
    unreachable = [] if checked.config is None or offline else _check_reachability(checked.config)
    if json:
        errors = [{**fault.as_dict(), "severity": "error"} for fault in (*checked.faults, *unreachable)]
        write_json([*errors, *({**warning.as_dict(), "severity": "warning"} for warning in checked.warnings)])
    else:
        print_faults((*checked.faults, *unreachable))
        print_warnings(checked.warnings)
    if checked.faults:
        raise typer.Exit(2)
    if unreachable:
        raise typer.Exit(1)
    if not json:
        stdout.print(f"ok: {checked.rules} rules")


def _check_files(config: Path | None, rules: list[Path], sample: Path | None, mapping: str) -> _Checked:
    faults: list[Fault] = []
    loaded: Config | None = None
    if config is not None:
        try:
            loaded = load_config(config)
        except FaultsError as error:
            return _Checked(faults=error.faults)
        rules = loaded.rules or list(shipped_pack())
        faults += _check_places(loaded)
    try:
        known = read_rules(rules)
    except FaultsError as error:
        return _Checked(loaded, faults + error.faults)
    if loaded is not None and loaded.workers is not None and loaded.rules:
        faults += sharing_faults(known.rules, frozenset(loaded.workers.keyed_by)).values()
    warnings = known.warnings
    if sample is not None and not faults:
        try:
            warnings = [*warnings, *_check_sample(known, sample, loaded, mapping)]
        except FaultsError as error:
            faults += error.faults
    return _Checked(loaded, faults, warnings, len(known.rules))


def _check_sample(known: LoadedRules, sample: Path, config: Config | None, mapping: str) -> list[Fault]:
    """Returns warnings about fields that no event of a sample has."""
    if config is None:
        return missing_fields(known, load_mapping(mapping), sample)
    fields, tables = load_mapping(config.mapping, config.event_time.zone), LookupTables()
    files = {name: table for name, table in config.tables.items() if isinstance(table, Path)}
    tables.load(csv_files(files), fields.table_uses())
    return missing_fields(known, fields, sample, tables.in_force)


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
        faults += setting_faults(config.source.kafka)
        faults += file_faults(config.source.kafka)
    if config.source.file is not None:
        for path in config.source.file.paths:
            if str(path) != "-" and not path.is_file():
                faults.append(Fault("no such file", str(path), hint="see source.file.paths"))
    if (problem := url_problem(config.findings.database)) is not None:
        faults.append(Fault(f"findings.database {problem}"))
    folder = config.dead_letter.file.parent
    if not folder.is_dir():
        faults.append(Fault("no such directory", str(folder), hint="see dead_letter.file"))
    return faults


def _check_reachability(config: Config) -> list[Fault]:
    return [*_check_brokers(config), *_check_database(config), *_check_provider(config)]


def _check_database(config: Config) -> list[Fault]:
    url = config.findings.database
    if url_problem(url) is not None:
        return []
    problem = database_problem(url)
    return [] if problem is None else [Fault(problem)]


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
    if settings is None or setting_faults(settings) or file_faults(settings):
        return []
    problem = reachable(settings, tables)
    if problem is None:
        return []
    servers = ", ".join(settings.bootstrap_servers)
    return [Fault(f"cannot reach Kafka at {servers}: {problem}", hint="see source.kafka.bootstrap_servers")]
