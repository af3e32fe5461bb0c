"""``custodes evidence``: verify, export and hold evidence."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from custodes._core import EvidenceDamagedError
from custodes.cli.encryption import keys_of
from custodes.cli.findings_session import ConfigPath, open_session
from custodes.cli.options import AsJson
from custodes.cli.output import stdout, write_json
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.config.model import EvidenceSettings
from custodes.encryption.keys import Keys
from custodes.evidence.anchors import heads_in
from custodes.evidence.bundle import check, export
from custodes.evidence.log_store import PUBLIC_KEY, open_for_reading
from custodes.evidence.retention import Hold, HoldStore
from custodes.evidence.verification import verify
from custodes.findings import rfc3339

app = typer.Typer(
    help="Verify, export and hold evidence: the events behind findings, in a tamper-evident log.", no_args_is_help=True
)

FindingId = Annotated[str, typer.Argument(help="Id of a finding, or an unambiguous prefix of it.")]
_TRIES = 3
"""Number of attempts: while the log is written, a read may see an incomplete block."""


@app.command("verify")
def verify_(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a log, or a bundle. Default: the folder of the configuration.", show_default=False
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Expected public key, as printed by `custodes evidence key`.", show_default=False),
    ] = None,
    head: Annotated[
        list[Path] | None,
        typer.Option(
            help="File with signed heads that are stored outside of the log's machine; repeatable.", show_default=False
        ),
    ] = None,
    json: AsJson = False,
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Report every entry that was changed, removed, reordered or truncated. Exit 1 if there is one."""
    path = path or _settings(config).folder
    try:
        if path.is_file():
            is_whole = _verify_bundle(path, key, json)
        else:
            is_whole = _verify_log(path, key, head or [], json, keys_of(load_config(config)))
    except ValueError as error:
        raise FaultsError([Fault(str(error))]) from error
    if not is_whole:
        raise typer.Exit(1)


def _verify_log(folder: Path, key: str | None, head_files: list[Path], json: bool, keys: Keys) -> bool:
    trusted = key
    if key is None:
        try:
            key = (folder / PUBLIC_KEY).read_text().strip()
        except OSError as error:
            raise FaultsError([Fault(f"no log found: {error.strerror}", str(folder), hint="give --key")]) from error
    heads = [head for file in head_files for head in heads_in(file)]
    for _ in range(_TRIES):
        result = verify(folder, [key], heads, keys)
        if not result.faults:
            break
        time.sleep(0.2)
    if json:
        write_json(result.as_dict() | {"key": key})
        return not result.faults
    for fault in result.faults:
        stdout.print(Text(str(fault), "red"))
    if not result.faults:
        erased = f", {result.expired:,} of them erased after their retention" if result.expired else ""
        stdout.print(f"ok: {result.entries:,} entries in {result.blocks:,} blocks{erased}")
        if trusted is None:
            stdout.print(Text(f"signed with the key stored next to the log: {key}", "dim"))
        if not heads:
            stdout.print(Text("not compared with an external head: use --head", "dim"))
    return not result.faults


def _verify_bundle(path: Path, key: str | None, json: bool) -> bool:
    result = check(path, key)
    if json:
        write_json(result.as_dict())
        return not result.faults
    for fault in result.faults:
        stdout.print(Text(str(fault), "red"))
    if not result.faults:
        stdout.print(
            f"ok: {result.events:,} events behind finding {result.finding['id']}, in a log signed {result.signed_at}"
        )
        if key is None:
            stdout.print(Text(f"signed with the key stored in the bundle: {result.log}", "dim"))
    return not result.faults


@app.command("export")
def export_(
    finding: FindingId,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Purpose; it is written to the audit trail.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Output file. Default: evidence-FINDING.zip.", show_default=False),
    ] = None,
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Write the evidence of a finding to a bundle that can be verified on any machine."""
    settings = _settings(config)
    with open_session(config) as session:
        one = session.find(finding)
        session.note("export", one.group.get("actor", one.id), reason)
    path = output or Path(f"evidence-{one.id[:8]}.zip")
    fresh = path.with_name(path.name + ".new")
    try:
        log = open_for_reading(settings.folder, keys_of(session.settings))
        with fresh.open("wb") as file:
            events = export(log, one.id, file)
    except (EvidenceDamagedError, ValueError) as error:
        fresh.unlink(missing_ok=True)
        raise RuntimeError(f"{settings.folder}: {error}") from error
    fresh.rename(path)
    stdout.print(f"{path}: {events:,} events", markup=False)


@app.command("key")
def key_(config: ConfigPath = Path("custodes.yaml")) -> None:
    """Print the public key of the log, which verifiers need."""
    stdout.print((_settings(config).folder / PUBLIC_KEY).read_text().strip(), markup=False)


@app.command("hold")
def hold_(
    finding: FindingId,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Reason for the hold.")],
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Exempt the evidence of a finding from retention until it is released."""
    with open_session(config) as session:
        one = session.find(finding)
        hold = Hold(one.id, getpass.getuser(), int(time.time() * 1e6), reason)
        with _faults():
            HoldStore(session.store.engine).set(hold)
        session.note("hold", one.id, reason)
    stdout.print(f"{one.id[:8]} is held")


@app.command()
def release(
    finding: FindingId,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Reason for the release.")],
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Release a hold: the evidence of the finding is subject to retention again."""
    with open_session(config) as session:
        one = session.find(finding)
        with _faults():
            HoldStore(session.store.engine).release(one.id)
        session.note("release", one.id, reason)
    stdout.print(f"{one.id[:8]} is released")


@app.command()
def holds(json: AsJson = False, config: ConfigPath = Path("custodes.yaml")) -> None:
    """List holds with account and reason."""
    with open_session(config) as session:
        held = HoldStore(session.store.engine).all()
    if json:
        write_json([one.as_dict() for one in held])
        return
    for one in held:
        stdout.print(Text(f"{one.finding_id[:8]} since {rfc3339(one.at)} by {one.by}: {one.reason}"))


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise FaultsError([Fault(str(error))]) from error


def _settings(config: Path) -> EvidenceSettings:
    settings = load_config(config)
    if settings.evidence is None:
        raise FaultsError([Fault("no evidence is kept", str(config), hint="set evidence")])
    return settings.evidence
