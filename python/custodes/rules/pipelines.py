"""Sigma's processing pipelines, which adapt rules to the names of fields.

A document with ``transformations`` among the rules is a pipeline. It applies to all rules loaded with it. Pipelines
apply in order of ``priority``, lowest first. Steps that change queries are errors, because there are no queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError, SigmaRuleNotFoundError
from sigma.processing.pipeline import ProcessingPipeline

from custodes.config import Document, Fault
from custodes.rules.parse import ParsedRule, sigma_fault

_OF_QUERIES = ("postprocessing", "finalizers")


def apply_pipelines(
    parsed: Sequence[ParsedRule], documents: Sequence[Document]
) -> tuple[list[ParsedRule], list[Fault]]:
    """Applies the pipelines in ``documents`` to the rules. Returns the rules to which they can be applied."""
    pipelines: list[ProcessingPipeline] = []
    faults: list[Fault] = []
    for document in documents:
        pipeline, document_faults = _read(document)
        faults += document_faults
        if pipeline is not None:
            pipelines.append(pipeline)
    if not pipelines:
        return list(parsed), faults
    pipelines.sort(key=lambda pipeline: pipeline.priority)
    changed, rule_faults = _apply(parsed, sum(pipelines[1:], start=pipelines[0]))
    return changed, faults + rule_faults


def _read(document: Document) -> tuple[ProcessingPipeline | None, list[Fault]]:
    faults = [
        document.fault(f"'{key}' changes queries, and there are none", key)
        for key in _OF_QUERIES
        if document.data.get(key)
    ]
    try:
        # pySigma removes keys from its argument.
        pipeline = ProcessingPipeline.from_dict(deepcopy(document.data))
    except SigmaError as error:
        return None, [*faults, sigma_fault(error, document)]
    except Exception as error:  # pySigma raises other errors for some values of the wrong type
        return None, [*faults, document.fault(f"not a processing pipeline: {type(error).__name__}: {error}")]
    return None if faults else pipeline, faults


def _apply(parsed: Sequence[ParsedRule], pipeline: ProcessingPipeline) -> tuple[list[ParsedRule], list[Fault]]:
    collection = SigmaCollection([rule.sigma for rule in parsed], resolve_references=False)
    for rule in parsed:
        if isinstance(rule.sigma, SigmaCorrelationRule):
            # Conditions on a log source need the rules that a correlation refers to. A later pass reports missing ones.
            try:
                rule.sigma.resolve_rule_references(collection)
            except SigmaRuleNotFoundError:
                continue
    changed: list[ParsedRule] = []
    faults: list[Fault] = []
    for rule in parsed:
        try:
            pipeline.apply(rule.sigma)
        except SigmaError as error:
            faults.append(sigma_fault(error, rule.document))
        else:
            changed.append(rule)
    return changed, faults
