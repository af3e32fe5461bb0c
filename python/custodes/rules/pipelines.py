"""Sigma's processing pipelines: what fits rules written for other fields to the ones there are.

A document with ``transformations`` among the rules is one. It applies to all rules loaded with it; of several, those
with the lowest ``priority`` come first. What would change a query is an error: there is none.
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


def apply_pipelines(parsed: list[ParsedRule], documents: Sequence[Document], faults: list[Fault]) -> list[ParsedRule]:
    """Has the pipelines in ``documents`` change the rules. What is wrong with them, and what they can't change, goes to
    ``faults``; the other rules are returned."""
    pipeline = _read(documents, faults)
    return parsed if pipeline is None else _apply(parsed, pipeline, faults)


def _read(documents: Sequence[Document], faults: list[Fault]) -> ProcessingPipeline | None:
    """All pipelines as one; ``None`` where none is sound."""
    pipelines = []
    for document in documents:
        before = len(faults)
        for key in _OF_QUERIES:
            if document.data.get(key):
                faults.append(document.fault(f"'{key}' changes queries, and there are none", key))
        try:
            # It takes keys out of what it reads.
            pipeline = ProcessingPipeline.from_dict(deepcopy(document.data))
        except SigmaError as error:
            faults.append(sigma_fault(error, document))
        except Exception as error:  # pySigma trips over some values of the wrong type
            faults.append(document.fault(f"not a processing pipeline: {type(error).__name__}: {error}"))
        else:
            if len(faults) == before:
                pipelines.append(pipeline)
    pipelines.sort(key=lambda pipeline: pipeline.priority)
    return sum(pipelines[1:], start=pipelines[0]) if pipelines else None


def _apply(parsed: Sequence[ParsedRule], pipeline: ProcessingPipeline, faults: list[Fault]) -> list[ParsedRule]:
    collection = SigmaCollection([one.sigma for one in parsed], resolve_references=False)
    for one in parsed:
        if isinstance(one.sigma, SigmaCorrelationRule):
            # Conditions on a log source ask for the rules it refers to. What there is not is told of later.
            try:
                one.sigma.resolve_rule_references(collection)
            except SigmaRuleNotFoundError:
                continue
    changed = []
    for one in parsed:
        try:
            pipeline.apply(one.sigma)
        except SigmaError as error:
            faults.append(sigma_fault(error, one.document))
        else:
            changed.append(one)
    return changed
