"""YAML documents with line numbers for every key, so that a fault has a place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from custodes.config.faults import Fault, FaultsError

YamlKey = str | int
YamlPath = tuple[YamlKey, ...]


@dataclass
class Document:
    """One YAML document: its data, and the line of each key and list item."""

    file: str
    data: Any
    line: int
    """Line at which the document starts, from 1."""
    lines: dict[YamlPath, int] = field(default_factory=dict)
    text: str = ""
    """Text of the whole file."""

    def line_of(self, *place: YamlKey) -> int:
        """Returns the line of a key or item, or of the nearest enclosing element that exists."""
        while place:
            if place in self.lines:
                return self.lines[place]
            place = place[:-1]
        return self.line

    def fault(self, message: str, *place: YamlKey, hint: str | None = None) -> Fault:
        return Fault(message, self.file, self.line_of(*place), hint)


def load_documents(path: Path) -> list[Document]:
    """Reads all documents of a YAML file. Raises :class:`FaultsError` for an unreadable file and for invalid YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FaultsError([Fault(f"cannot read: {error.strerror}", str(path))]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FaultsError([Fault(f"not UTF-8 at byte {error.start}", str(path), line)]) from error
    documents = []
    line = 1
    try:
        for node in yaml.compose_all(text, yaml.CSafeLoader):
            line = node.start_mark.line + 1
            document = Document(str(path), None, line, text=text)
            document.data = _YamlBuilder(document).build(node, ())
            documents.append(document)
    except RecursionError as error:
        raise FaultsError([Fault("nested too deeply", str(path), line)]) from error
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        raise FaultsError([Fault(f"not YAML: {error.reason}", str(path), line)]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "malformed"
        line = mark.line + 1 if mark else line
        raise FaultsError([Fault(f"not YAML: {problem}", str(path), line)]) from error
    return documents


class _YamlBuilder:
    """Converts nodes to data. The target of an alias is built once, so a few lines cannot expand to billions."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._built: dict[int, Any] = {}
        self._open: set[int] = set()

    def build(self, node: yaml.Node, place: YamlPath) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        key = id(node)
        if key in self._open:
            fault = Fault("an alias that contains itself", self._document.file, node.start_mark.line + 1)
            raise FaultsError([fault])
        if key not in self._built:
            self._open.add(key)
            is_mapping = isinstance(node, yaml.MappingNode)
            self._built[key] = self._mapping(node, place) if is_mapping else self._sequence(node, place)
            self._open.discard(key)
        return self._built[key]

    def _mapping(self, node: yaml.Node, place: YamlPath) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise FaultsError([Fault("a key must be plain text", self._document.file, line)])
            key = self._scalar(key_node)
            if key in result:
                raise FaultsError([Fault(f"key '{key}' is given twice", self._document.file, line)])
            self._document.lines[(*place, key)] = line
            result[key] = self.build(value_node, (*place, key))
        return result

    def _sequence(self, node: yaml.Node, place: YamlPath) -> list[Any]:
        items = []
        for at, item in enumerate(node.value):
            self._document.lines[(*place, at)] = item.start_mark.line + 1
            items.append(self.build(item, (*place, at)))
        return items

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        """Reads a scalar like the safe loader, except that dates stay text, as Sigma requires."""
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        loader = yaml.CSafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        except yaml.YAMLError:
            raise
        except Exception as error:  # the constructors of numbers and booleans raise several errors for other texts
            kind = node.tag.rpartition(":")[2]
            fault = Fault(f"not a value of type '{kind}'", self._document.file, node.start_mark.line + 1)
            raise FaultsError([fault]) from error
        finally:
            loader.dispose()
