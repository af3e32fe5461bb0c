"""Shape of a processing pipeline: its keys, and the types that pySigma does not check."""

from __future__ import annotations

from custodes.config import Document, Fault
from custodes.rules.document_value import DocumentValue, is_plain, key_faults, mapping_faults, text_faults, texts_faults
from custodes.rules.keys import PIPELINE


def pipeline_faults(document: Document) -> list[Fault]:
    """Returns the faults of a pipeline's shape."""
    root = DocumentValue(document, document.data)
    faults = key_faults(root, PIPELINE)
    if root.has("name"):
        faults += text_faults(root.child("name"))
    if root.has("priority") and not _is_whole(root.value["priority"]):
        faults.append(root.child("priority").fault("'priority' must be a whole number"))
    if root.has("vars"):
        faults += _variables_faults(root.child("vars"))
    transformations = root.child("transformations")
    if not isinstance(transformations.value, list):
        return [*faults, transformations.fault("'transformations' must be a list")]
    if not transformations.value and not any(root.value.get(key) for key in ("postprocessing", "finalizers")):
        faults.append(transformations.fault("'transformations' is empty"))
    for _, transformation in transformations.children():
        faults += _transformation_faults(transformation)
    return faults


def _variables_faults(node: DocumentValue) -> list[Fault]:
    if faults := mapping_faults(node):
        return faults
    return [
        child.fault(f"'{child.name}' must be a value or a list of values")
        for _, child in node.children()
        if not all(map(is_plain, child.value if isinstance(child.value, list) else [child.value]))
    ]


def _transformation_faults(node: DocumentValue) -> list[Fault]:
    if faults := mapping_faults(node):
        return faults
    if not node.has("type"):
        return [node.fault(f"'{node.name}' has no type")]
    faults = text_faults(node.child("type"))
    if node.value["type"] == "field_name_mapping" and node.has("mapping"):
        mapping = node.child("mapping")
        wrong = mapping_faults(mapping)
        faults += wrong or [fault for _, child in mapping.children() for fault in texts_faults(child)]
    return faults


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
