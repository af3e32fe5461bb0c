"""Writes docs/reference/ from where things are defined: `make docs`. A test sees to it that it was run."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import typer
import yaml
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

from custodes._core import REASONS
from custodes.cli import app
from custodes.config import format_duration
from custodes.config.alerts import Receiver
from custodes.config.model import Config
from custodes.log_events import all_events, fields_of
from custodes.runtime.metrics import Metrics
from custodes.sources.file_faults import MEANINGS

ROOT = Path(__file__).parent.parent
CONSTRUCTS = ROOT / "tests" / "sigma" / "constructs.yml"
HEAD = "<!-- Written by docs/generate.py. Change the definitions, then run `make docs`. -->\n\n"


def pages() -> dict[str, str]:
    """Each page's path under docs/reference/ and its text."""
    texts = {
        "config.md": _config(),
        "receivers.md": _receivers(),
        "metrics.md": _metrics(),
        "cli.md": _cli(),
        "sigma.md": _sigma(),
        "log.md": _log(),
    }
    return {name: HEAD + text for name, text in texts.items()}


def _log() -> str:
    lines = [
        "# Log events",
        "",
        "Log lines go to standard error, as text or as JSON (`log.format`). Each has the stable name of an event, its",
        "fields, and last the consequence: the action Custodes takes by itself. No event contains the name of an actor",
        "or a subject.",
        "",
        "| event | level | meaning | fields | consequence |",
        "| --- | --- | --- | --- | --- |",
    ]
    for event in all_events():
        fields = ", ".join(f"`{field.name}`" for field in fields_of(event))
        meaning = " ".join((event.__doc__ or "").replace("``", "`").split())
        lines.append(f"| `{event.name}` | {event.level} | {meaning} | {fields} | {event.consequence} |")
    return "\n".join(lines) + "\n"


def _config() -> str:
    lines = [
        "# Configuration",
        "",
        "One YAML file, checked whole by `custodes check -c FILE` before anything starts. Every key can be overridden",
        "from the environment: `CUSTODES_HTTP__LISTEN` is `http.listen`. For editors: `custodes config schema`.",
        "",
        "| key | default | meaning |",
        "| --- | --- | --- |",
    ]
    _rows(Config, "", lines)
    return "\n".join(lines) + "\n"


def _receivers() -> str:
    lines = [
        "# Receivers of alerts",
        "",
        "Entries of `alerts.receivers`, by their `kind`. Common settings and guarantees:",
        "[alerts](../alerts.md).",
        "",
    ]
    kinds: Any = get_args(get_args(Receiver)[0])
    for kind in kinds:
        fields = {name: field for name, field in kind.model_fields.items() if name != "kind"}
        lines += [f"## {get_args(kind.model_fields['kind'].annotation)[0]}", "", str(kind.__doc__), ""]
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        for name, field in fields.items():
            default = "required" if field.is_required() else _shown(field)
            lines.append(f"| `{name}` | {default} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def _rows(model: type[BaseModel], prefix: str, lines: list[str]) -> None:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        options = getattr(field.annotation, "__args__", (field.annotation,))
        section = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if section is not None:
            lines.append(f"| **`{key}`** | | {field.description} |")
            _rows(section, f"{key}.", lines)
        else:
            default = "required" if field.is_required() else _shown(field)
            lines.append(f"| `{key}` | {default} | {field.description} |")


def _shown(field: FieldInfo) -> str:
    if field.default_factory is not None and isinstance(field.json_schema_extra, dict):
        # In words, since it depends on the machine.
        return str(field.json_schema_extra["default"])
    default: Any = field.get_default(call_default_factory=True)
    if isinstance(default, timedelta):
        default = format_duration(default)
    return "" if default in (None, {}, []) else f"`{default}`"


def _sigma() -> str:
    lines = [
        "# Sigma, construct by construct",
        "",
        "Coverage of the [specification](https://github.com/SigmaHQ/sigma-specification). Every line is a test",
        "(`tests/sigma/constructs.yml`): that a rule matches and finds what the specification says, or that it is",
        "refused with this message, file and line.",
        "",
    ]
    for section, constructs in yaml.safe_load(CONSTRUCTS.read_text()).items():
        lines += [f"## {section}", "", "| construct | |", "| --- | --- |"]
        for one in constructs:
            message = str(one.get("error") or one.get("error_in_pipeline") or "").partition(": ")[2]
            lines.append(f"| {one['construct']} | {f'refused: *{message}*' if message else 'yes'} |")
        lines.append("")
    return "\n".join(lines)


def _metrics() -> str:
    metrics = Metrics([], "kafka:topic")
    lines = [
        "# Metrics",
        "",
        "Served at `/metrics`. The number of series depends on the rules alone, never on the data: no actor,",
        "subject or address is a label.",
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase) and not metric._labelvalues:
            lines.append(_metric_row(metric))
    lines.append("| `custodes_build_info` | gauge | version | Always 1; the label tells the version. |")
    lines += [
        "",
        "## Reasons a record is rejected",
        "",
        "The values of `reason`:",
        "",
        "| reason | meaning |",
        "| --- | --- |",
    ]
    meanings = _reasons()
    lines += [f"| `{reason}` | {meanings[reason]} |" for reason in REASONS]
    lines += [f"| `{reason}` | {meaning} |" for reason, meaning in MEANINGS.items()]
    return "\n".join(lines) + "\n"


def _metric_row(metric: Any) -> str:
    name = metric._name + ("_total" if metric._type == "counter" else "")
    labels = ", ".join(metric._labelnames)
    return f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |"


def _reasons() -> dict[str, str]:
    """The doc comments of the engine's `Reason`, by label value."""
    source = (ROOT / "rust/engine/src/decode/reject.rs").read_text(encoding="utf-8")
    variants = re.findall(r"((?:    /// .*\n)+)    (\w+),\n", source)
    names = dict(re.findall(r'Self::(\w+) => "(\w+)"', source))
    text = {names[variant]: " ".join(re.findall(r"/// (.*)", comment)) for comment, variant in variants}
    return {name: re.sub(r"\[`crate::json::MAX_DEPTH`\]", "128 levels", meaning) for name, meaning in text.items()}


def _cli() -> str:
    root = get_command(app)
    context = typer.Context(root, info_name="custodes")
    lines = ["# Command line", "", "Exit codes: 0 done, 1 failure, 2 usage or configuration.", ""]
    for name in root.list_commands(context):  # type: ignore[attr-defined]
        command = root.get_command(context, name)  # type: ignore[attr-defined]
        _command(command, f"custodes {name}", lines)
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Any, name: str, lines: list[str]) -> None:
    children = getattr(command, "commands", None)
    if children:
        for child_name, child in children.items():
            _command(child, f"{name} {child_name}", lines)
        return
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    shown = "".join(f" {argument.name.upper()}…" for argument in arguments)
    lines += [f"## `{name}{shown}`", "", (command.help or "").strip(), ""]
    options = [option for option in options if not option.name.endswith("_completion")]
    if options:
        lines += ["| option | default | meaning |", "| --- | --- | --- |"]
        for option in options:
            default = "" if option.default in (None, False) or callable(option.default) else f"`{option.default}`"
            lines.append(f"| `{', '.join(option.opts)}` | {default} | {option.help} |")
        lines.append("")


if __name__ == "__main__":
    for name, text in pages().items():
        (ROOT / "docs" / "reference" / name).write_text(text, encoding="utf-8")
