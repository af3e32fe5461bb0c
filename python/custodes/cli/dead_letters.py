"""``custodes dead-letters``: prints rejected records, and sends them again."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.text import Text
from typer.core import TyperGroup

from custodes._core import REASONS, Engine
from custodes.cli.encryption import keys_of
from custodes.cli.output import print_faults, stderr, stdout, write_json
from custodes.cli.plans import validating_plan
from custodes.config import Fault, FaultsError
from custodes.config.faults import did_you_mean
from custodes.config.load import load_config
from custodes.config.model import Config
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.sources.client import setting_faults
from custodes.sources.dead_letters import read_line
from custodes.sources.file_faults import MEANINGS
from custodes.sources.letter_replay import (
    STAYS,
    KafkaSourceTopics,
    LetterReplay,
    ReadableLetters,
    ReplayedLetters,
    readable_lines,
)
from custodes.sources.letter_store import FileLetterStore, LetterStore, ReplayInProgressError, TopicLetterStore
from custodes.sources.topic_reader import TopicReader

_LIST = "list"


class _ListsByDefault(TyperGroup):
    """Runs ``list`` if no command is named: ``custodes dead-letters FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds the name of the default command."""
        is_help = bool(args) and args[0] in ctx.help_option_names
        if not is_help and (not args or args[0] not in self.commands):
            args = [_LIST, *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(cls=_ListsByDefault, help="Print rejected records, and send them again. Without a command: list.")

_LetterFile = Annotated[
    Path | None,
    typer.Argument(help="Dead-letter file. Default: the file or topic of the configuration.", show_default=False),
]
_ConfigFile = Annotated[Path, typer.Option("-c", "--config", help="Configuration file.")]


@app.command(_LIST)
def list_(
    file: Annotated[
        Path | None, typer.Argument(help="Dead-letter file. Default: that of the configuration.", show_default=False)
    ] = None,
    config: _ConfigFile = Path("custodes.yaml"),
) -> None:
    """Print rejected records with position and reason, one JSON object per line. Encrypted records are decrypted.

    Unreadable lines are reported on standard error, and the exit code is 1; all other lines are printed.
    """
    settings = load_config(config)
    keys = keys_of(settings)
    path = file or settings.dead_letter.file
    faults = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    write_json(read_line(line, keys))
                except (OSError, ValueError) as error:
                    faults.append(Fault(str(error), str(path), line=number))
    except OSError as error:
        raise _unreadable(path, error) from error
    if faults:
        print_faults(faults)
        raise typer.Exit(1)


@app.command()
def replay(
    file: _LetterFile = None,
    config: _ConfigFile = Path("custodes.yaml"),
    reason: Annotated[
        list[str] | None,
        typer.Option(help="Only letters with this reason; repeatable. Default: all.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Send rejected records again that the current mapping and limits can read, each once.

    With a Kafka source, each record goes unchanged to its topic and partition, and the running monitor counts it. All
    other records stay for a later run. With a file source, the readable records are printed as JSON Lines, for
    `custodes replay`. Exit 1 if a record was refused or a letter cannot be read.
    """
    settings = load_config(config)
    known = [*REASONS, *MEANINGS]
    if unknown := [one for one in reason or [] if one not in known]:
        raise FaultsError(Fault(f"--reason: '{one}' is unknown", hint=did_you_mean(one, known)) for one in unknown)
    readable = ReadableLetters(Engine(validating_plan(settings)), reason or [])
    kafka = settings.source.kafka
    if kafka is None:
        _print_lines(settings, file or settings.dead_letter.file, readable, is_dry=dry_run)
    else:
        _send(settings, kafka, file, readable, is_dry=dry_run)
    result = readable.result
    print_faults(Fault(letter.problem, letter.place) for letter in result.unreadable)
    # The records of a file source are on standard output.
    console = stderr if kafka is None else stdout
    console.print(Text(orjson.dumps(_as_dict(result)).decode() if json else _summary(result, is_dry=dry_run)))
    if result.refused or result.unreadable:
        raise typer.Exit(1)


def _print_lines(settings: Config, path: Path, readable: ReadableLetters, *, is_dry: bool) -> None:
    """Prints the readable records of a dead-letter file; in a dry run, only counts them."""
    try:
        store = FileLetterStore(path, keys_of(settings), is_dry=True)
    except OSError as error:
        raise _unreadable(path, error) from error
    with closing(store):
        for line in readable_lines(store.letters(), readable):
            if not is_dry:
                sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def _send(
    settings: Config, kafka: KafkaSettings, file: Path | None, readable: ReadableLetters, *, is_dry: bool
) -> None:
    """Sends the readable letters to the topics of the source."""
    if faults := setting_faults(kafka):
        raise FaultsError(faults)
    with ExitStack() as closed:
        store: LetterStore
        path = file or settings.dead_letter.file
        is_topic = file is None and kafka.dead_letter_topic is not None
        if not is_topic:
            try:
                store = FileLetterStore(path, keys_of(settings), is_dry=is_dry, on_wait=_report_waiting)
            except OSError as error:
                raise _unreadable(path, error) from error
            closed.callback(store.close)
        reader = closed.enter_context(closing(TopicReader(kafka)))
        if is_topic:
            store = TopicLetterStore(
                kafka, str(kafka.dead_letter_topic), reader, is_dry=is_dry, on_wait=_report_waiting
            )
            closed.callback(store.close)
        topics = closed.enter_context(closing(KafkaSourceTopics(kafka, reader, settings.max_record_bytes)))
        try:
            LetterReplay(store, topics, readable).run(is_dry=is_dry)
        except ReplayInProgressError as error:
            raise RuntimeError(f"{error}; try again when it has ended") from error


def _report_waiting(seconds: float) -> None:
    stderr.print(f"an earlier run did not end; waiting up to {seconds:.0f} s until all that it sent can be read")


def _unreadable(path: Path, error: OSError) -> FaultsError:
    return FaultsError([Fault(f"{path} cannot be read: {error.strerror}", hint="name the file")])


def _summary(result: ReplayedLetters, *, is_dry: bool) -> str:
    rows = [("would be sent" if is_dry else "sent", result.sent), ("stay", result.stay), ("refused", result.refused)]
    lines = [f"{name:<14} {_by_reason(counts)}" for name, counts in rows if counts or name != "refused"]
    lines += [
        f"{name:<14} {count:,}"
        for name, count in (
            ("already sent", result.already_sent),
            ("copies", result.copies),
            ("not selected", result.not_selected),
        )
        if count
    ]
    lines += [f"{reason}: {STAYS[reason]}" for reason in result.stay if reason in STAYS]
    return "\n".join(lines)


def _by_reason(counts: Counter[str]) -> str:
    if not counts:
        return "0"
    return f"{counts.total():,}: " + ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())


def _as_dict(result: ReplayedLetters) -> dict[str, Any]:
    return {
        "sent": dict(result.sent),
        "stay": dict(result.stay),
        "refused": dict(result.refused),
        "already_sent": result.already_sent,
        "copies": result.copies,
        "not_selected": result.not_selected,
    }
