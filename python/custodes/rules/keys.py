"""Keys of a rule document. Any other key is an error, because a misspelt key would have no effect."""

from __future__ import annotations

METADATA = (
    "title", "id", "name", "related", "taxonomy", "status", "description", "license", "author", "references", "date",
    "modified", "tags", "scope", "fields", "falsepositives", "level",
)  # fmt: skip
"""Keys of the Sigma specification that describe a rule."""
CUSTOM = (
    "custom_attributes", "sigma-version", "regression_tests_path", "simulation", "ruletype", "details", "enrichment",
)  # fmt: skip
"""Keys of other tools and of public rule collections. They have no effect here."""
CUSTOM_PREFIXES = ("x-", "x_")
"""Prefixes of keys that are an author's own. They have no effect here."""
KINDS = ("detection", "correlation", "filter")
"""Keys of which a document has exactly one."""
OF_KIND = {
    "detection": ("detection", "logsource", "generate", "custodes"),
    "correlation": ("correlation", "generate", "custodes"),
    "filter": ("filter", "logsource"),
}
"""Keys of each kind of document, besides the metadata."""
PIPELINE = ("transformations", "postprocessing", "finalizers", "vars", "priority", "name", "allowed_backends")
"""Keys of a processing pipeline; ``transformations`` makes a document one."""
LOGSOURCE = ("category", "product", "service", "definition")
CORRELATION = ("type", "rules", "generate", "aliases", "group-by", "timespan", "condition")
OPERATORS = ("gte", "gt", "lte", "lt", "eq", "neq")
"""Operators of a correlation's condition."""
CONDITION = (*OPERATORS, "field", "percentile")
"""Keys of a correlation's condition."""
SPANS = ("keep_open", "resolution")
"""Keys of durations under a rule's ``custodes`` key."""
OWN = (*SPANS, "baseline", "new", "dormant", "tuning", "runbook")
"""Keys under a rule's ``custodes`` key."""
PLANNED = ("reset",)
"""Keys under a rule's ``custodes`` key that a later version supports."""


def is_custom(key: str) -> bool:
    """Returns whether a key of a document is another tool's or an author's own."""
    return key in CUSTOM or key.startswith(CUSTOM_PREFIXES)
