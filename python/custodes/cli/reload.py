"""Reloads the configuration of a running monitor, on SIGHUP and on POST /-/reload."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from custodes.cli.plans import plan_writer
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.config.mapping import load_mapping
from custodes.config.model import Config
from custodes.config.normal_forms import ComparesNames
from custodes.evidence.contributing_events import ContributingEvents
from custodes.log_events import ConfigurationReloaded, ReloadFailed, RestartNeeded, RuleFileWarning, ShippedRuleSkipped
from custodes.rules import Ruleset, read_rules, sharing_faults, shipped_pack
from custodes.runtime.monitor import Monitor
from custodes.sources.lookup_tables import FileTable, LookupTables, TableSource
from custodes.sources.secret_files import file_faults
from custodes.sources.table_topic import TopicTable

_RELOADABLE: Any = {
    "rules": True,
    "mapping": True,
    "tables": True,
    "max_record_bytes": True,
    "engine": {"threads"},
    "findings": {"most_open"},
    "event_time": {"zone", "allowed_lateness", "max_future_skew", "earliest"},
}
"""Keys that a reload applies, in the format of pydantic's ``exclude``; all others need a restart."""


def compile_rules(settings: Config, tables: LookupTables) -> Ruleset:
    """Compiles the rules of a configuration and activates its look-up tables. Raises :class:`FaultsError`."""
    mapping = load_mapping(settings.mapping, settings.event_time.zone)
    files = read_rules(settings.rules or shipped_pack())
    for warning in files.warnings:
        RuleFileWarning(warning=str(warning)).emit()
    rules = files.rules
    tables.load(_table_sources(settings), mapping.table_uses())
    write = plan_writer(settings, mapping)
    if settings.workers is None:
        return Ruleset(rules, write, forms=mapping.normal_forms)
    keyed_by = frozenset(settings.workers.keyed_by)
    faults = sharing_faults(rules, keyed_by)
    if faults and settings.rules:
        raise FaultsError(faults.values())
    for fault in faults.values():
        ShippedRuleSkipped(fault=str(fault)).emit()
    rules = [rule for rule in rules if rule.id not in faults]
    return Ruleset(rules, write, keyed_by, mapping.normal_forms)


def _table_sources(settings: Config) -> dict[str, TableSource]:
    kafka = settings.source.kafka
    sources: dict[str, TableSource] = {}
    for name, table in settings.tables.items():
        if isinstance(table, Path):
            sources[name] = FileTable(table)
        elif kafka is not None:
            sources[name] = TopicTable(kafka, table)
    return sources


class ConfigReloader:
    """Applies a changed configuration. If it has a fault, nothing changes."""

    def __init__(
        self,
        path: Path,
        settings: Config,
        monitor: Monitor,
        tables: LookupTables,
        contributions: ContributingEvents | None = None,
        comparing: Iterable[ComparesNames] = (),
    ) -> None:
        """``settings`` are the active ones; ``contributions`` is updated with the active rules, and ``comparing`` with
        the normal forms of the mapping."""
        self._comparing = list(comparing)
        self._contributions = contributions
        self._path = path
        self._settings = settings
        self._monitor = monitor
        self._tables = tables
        self._lock = threading.Lock()

    def __call__(self) -> Sequence[Fault]:
        """Reloads, and returns the faults; with a fault, nothing has changed."""
        with self._lock:
            faults = self._try()
            self._monitor.metrics.reload_failed.set(1 if faults else 0)
            for fault in faults:
                ReloadFailed(fault=str(fault)).emit()
            return faults

    def _try(self) -> Sequence[Fault]:
        try:
            settings = load_config(self._path)
            if settings.source.kafka is not None and (faults := file_faults(settings.source.kafka)):
                return faults
            # A reload cannot change how counting is distributed among workers.
            ruleset = compile_rules(settings.model_copy(update={"workers": self._settings.workers}), self._tables)
            self._monitor.change_rules(ruleset, settings.engine.threads)
            for comparing in self._comparing:
                comparing.forms = ruleset.forms
            if self._contributions is not None:
                self._contributions.ruleset = ruleset
        except FaultsError as error:
            return error.faults
        except TimeoutError:
            return [Fault("the monitor is busy", hint="try again")]
        except (OSError, ValueError) as error:
            return [Fault(str(error))]
        before, now = (one.model_dump(exclude=_RELOADABLE) for one in (self._settings, settings))
        if restart_needed := sorted(key for key in now if now[key] != before[key]):
            RestartNeeded(keys=restart_needed).emit()
        ConfigurationReloaded(rules=len(ruleset.rules)).emit()
        return []

    def on_signal(self) -> None:
        """Reloads on SIGHUP, in a separate thread: the signal handler interrupts the monitor's loop."""
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=self, name="reload").start())
