"""Shape of a rule document: its keys and their types. pySigma and the compiler read only documents of the right shape.

A key or an empty value without effect is an error: a rule that counts less than its author wrote is worse than a rule
that does not load.
"""

from __future__ import annotations

from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean
from custodes.rules.correlation_shape import correlation_faults
from custodes.rules.document_value import (
    DocumentValue,
    boolean_faults,
    key_faults,
    mapping_faults,
    text_faults,
    texts_faults,
)
from custodes.rules.keys import (
    CUSTOM_PREFIXES,
    KINDS,
    LOGSOURCE,
    METADATA,
    OF_KIND,
    OWN,
    PIPELINE,
    PLANNED,
    is_custom,
)
from custodes.rules.selections import detection_faults, unused_selections

_LONGEST_TITLE = 256


def shape_faults(document: Document) -> list[Fault]:
    """Returns the faults of a document's shape."""
    root = DocumentValue(document, document.data)
    if not isinstance(root.value, dict):
        return [document.fault("a rule is a YAML mapping")]
    kinds = [kind for kind in KINDS if kind in root.value]
    faults = _unknown_keys(root, kinds)
    if len(kinds) > 1:
        faults.append(root.child(kinds[1]).fault(f"'{kinds[0]}' and '{kinds[1]}' must be separate documents"))
    if len(kinds) != 1:
        return faults or [document.fault("no detection, correlation or filter")]
    faults += _title_faults(root)
    if root.has("name"):
        faults += text_faults(root.child("name"))
    if root.has("level") and not isinstance(root.value["level"], str | None):
        faults += text_faults(root.child("level"))
    if root.has("generate"):
        faults += boolean_faults(root.child("generate"))
    if kinds != ["correlation"]:
        faults += _logsource_faults(root, kinds[0])
    if root.value.get("custodes") is not None:
        faults += _own_faults(root.child("custodes"))
    of_kind = {"detection": detection_faults, "correlation": correlation_faults, "filter": _filter_faults}
    return faults + of_kind[kinds[0]](root.child(kinds[0]))


def shape_warnings(document: Document) -> list[Fault]:
    """Returns the warnings about a document of the right shape."""
    root = DocumentValue(document, document.data)
    return [
        fault for kind in ("detection", "filter") if root.has(kind) for fault in unused_selections(root.child(kind))
    ]


def _unknown_keys(root: DocumentValue, kinds: list[str]) -> list[Fault]:
    known = {*METADATA, *(key for kind in kinds or KINDS for key in OF_KIND[kind])}
    elsewhere = {key for keys in OF_KIND.values() for key in keys} - known
    faults = []
    for key, child in root.children():
        if not isinstance(key, str):
            faults += key_faults(DocumentValue(root.document, {key: child.value}))
        elif key == "action":
            hint = "write each rule out, or use a Sigma filter"
            faults.append(child.fault("'action' documents are Sigma's old collections", hint))
        elif key in elsewhere and key not in KINDS:
            faults.append(child.fault(f"'{key}' has no effect in a {kinds[0]}"))
        elif key not in known and key not in KINDS and not is_custom(key):
            suggested = known if kinds else {*known, *PIPELINE}
            hint = did_you_mean(key, suggested) or f"keys of your own begin with '{CUSTOM_PREFIXES[0]}'"
            faults.append(child.fault(f"unknown key '{key}'", hint))
    return faults


def _title_faults(root: DocumentValue) -> list[Fault]:
    if not root.has("title"):
        return [root.document.fault("a rule must have a title")]
    title = root.child("title")
    if not (faults := text_faults(title)) and len(title.value) > _LONGEST_TITLE:
        faults = [title.fault(f"the title is longer than {_LONGEST_TITLE} characters")]
    return faults


def _logsource_faults(root: DocumentValue, kind: str) -> list[Fault]:
    if not root.has("logsource"):
        return [root.document.fault(f"a {kind} must have a log source", hint="like `logsource: {product: custodes}`")]
    logsource = root.child("logsource")
    faults = mapping_faults(logsource, LOGSOURCE)
    return faults or [fault for _, child in logsource.children() for fault in text_faults(child)]


def _filter_faults(node: DocumentValue) -> list[Fault]:
    faults = detection_faults(node)
    if not isinstance(node.value, dict):
        return faults
    if isinstance(node.value.get("condition"), list):
        faults.append(node.child("condition").fault("the condition of a filter must be one text"))
    hint = "write `rules: any` for all rules with this log source"
    if not node.has("rules"):
        return [*faults, node.fault("a filter must have 'rules'", hint)]
    return faults + texts_faults(node.child("rules"))


def _own_faults(node: DocumentValue) -> list[Fault]:
    if not isinstance(node.value, dict):
        return [node.fault("'custodes' must be a mapping")]
    planned = {key: value for key, value in node.value.items() if key in PLANNED}
    others = {key: value for key, value in node.value.items() if key not in PLANNED}
    faults = [node.child(key).fault(f"'{key}' is not supported yet") for key in planned]
    faults += key_faults(DocumentValue(node.document, others, node.place), OWN)
    return faults + [fault for key in ("tuning", "runbook") if key in others for fault in text_faults(node.child(key))]
