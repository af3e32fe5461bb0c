"""Loading of the configuration file, with the place of every fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from custodes.config.faults import Fault, FaultsError, did_you_mean
from custodes.config.model import Config
from custodes.config.yamldoc import Document, load_documents


def load_config(path: Path) -> Config:
    """Reads and checks ``custodes.yaml``; relative paths in it are relative to its directory.

    Raises :class:`FaultsError` with every fault, each with file and line.
    """
    documents = load_documents(path)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise FaultsError([Fault("must be one YAML mapping", str(path), 1, "start from deploy/custodes.yaml")])
    document = documents[0]
    try:
        config = Config(**{str(key): value for key, value in document.data.items()})
    except ValidationError as error:
        raise FaultsError(validation_faults(document, error, Config)) from error
    return _anchored(config, path.parent)


def validation_faults(document: Document, error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Returns the faults that pydantic found in a document of type ``model``, each with its place."""
    return [_fault(document, detail, model) for detail in error.errors()]


def _fault(document: Document, detail: ErrorDetails, model: type[BaseModel]) -> Fault:
    place = detail["loc"]
    dotted = ".".join(map(str, place))
    hint = None
    if model is Config and place and not any(place[:n] in document.lines for n in range(1, len(place) + 1)):
        variable = "CUSTODES_" + "__".join(map(str, place)).upper()
        hint = f"the key is missing in the file; or set {variable}"
    if detail["type"] == "extra_forbidden":
        return document.fault(
            f"unknown key '{dotted}'", *place, hint=did_you_mean(str(place[-1]), _siblings(place, model))
        )
    if detail["type"] == "missing":
        return document.fault(f"key '{dotted}' is missing", *place[:-1])
    message = detail["msg"].removeprefix("Value error, ")
    return document.fault(f"{dotted}: {message}" if dotted else message, *place, hint=hint)


def _siblings(place: tuple[int | str, ...], model: Any) -> list[str]:
    """Returns the keys that are allowed in the place of the last element of ``place``."""
    for key in place[:-1]:
        if isinstance(key, int):
            continue
        annotation = model.model_fields[key].annotation if key in model.model_fields else None
        options = getattr(annotation, "__args__", (annotation,))
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)


def anchored_mapping(mapping: str, base: Path) -> str:
    """Returns the name of a built-in mapping unchanged, and the path of a mapping file relative to ``base``."""
    return str(base / Path(mapping).expanduser()) if mapping.endswith((".yml", ".yaml")) else mapping


def _anchored(config: Config, base: Path) -> Config:
    """Returns the configuration with every path relative to ``base``."""
    database, prefix = config.findings.database, "sqlite:///"
    if database.startswith(prefix) and not database.startswith(prefix + "/"):
        database = prefix + str((base / database.removeprefix(prefix)).resolve())
    findings = config.findings.model_copy(update={"database": database})
    update = {"mapping": anchored_mapping(config.mapping, base), "findings": findings}
    anchored: Config = _with_paths(config, base).model_copy(update=update)
    return anchored


def _with_paths(value: Any, base: Path) -> Any:
    match value:
        case Path():
            return value if str(value) == "-" else base / value.expanduser()
        case BaseModel():
            return value.model_copy(update={name: _with_paths(one, base) for name, one in value})
        case list():
            return [_with_paths(one, base) for one in value]
        case dict():
            return {name: _with_paths(one, base) for name, one in value.items()}
        case _:
            return value
