"""Sigma's processing pipelines, which adapt rules to the names of fields.

A document with ``transformations`` among the rules is a pipeline. It applies to all rules loaded with it. Pipelines
apply in order of ``priority``, lowest first. Steps that change queries are errors, because there are no queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError, SigmaRuleNotFoundError
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaRule
from sigma.rule.base import check_alias_expansion

from custodes.config import Document, Fault
from custodes.rules.numbers import with_exact_numbers
from custodes.rules.parse import ParsedRule, cause_of, sigma_fault
from custodes.rules.pipeline_shape import pipeline_faults

_OF_QUERIES = ("postprocessing", "finalizers")


def apply_pipelines(
    parsed: Sequence[ParsedRule], documents: Sequence[Document]
) -> tuple[list[ParsedRule], list[Fault]]:
    """Applies the pipelines in ``documents`` to the rules. Returns the rules to which they can be applied.

    Returns no rules if a pipeline has a fault: without it, their placeholders and fields would be faults, too.
    """
    pipelines: list[_Pipeline] = []
    faults: list[Fault] = []
    for document in documents:
        pipeline, document_faults = _read(document)
        faults += document_faults
        if pipeline is not None:
            pipelines.append(_Pipeline(document, pipeline))
    if faults:
        return [], faults
    pipelines.sort(key=lambda pipeline: pipeline.sigma.priority)
    changed, rule_faults = _apply(parsed, pipelines)
    return changed, rule_faults


@dataclass(frozen=True)
class _Pipeline:
    document: Document
    sigma: ProcessingPipeline


def _read(document: Document) -> tuple[ProcessingPipeline | None, list[Fault]]:
    faults = [
        *pipeline_faults(document),
        *(
            document.fault(f"'{key}' changes queries, and there are none", key)
            for key in _OF_QUERIES
            if document.data.get(key)
        ),
    ]
    if faults:
        return None, faults
    try:
        check_alias_expansion(document.data)
        # This copies the data; pySigma removes keys from its argument.
        return ProcessingPipeline.from_dict(with_exact_numbers(document.data)), []
    except SigmaError as error:
        return None, [sigma_fault(error, document)]
    except Exception as error:  # pySigma raises other errors for some values
        return None, [document.fault(f"not a processing pipeline: {cause_of(error)}")]


def _apply(parsed: Sequence[ParsedRule], pipelines: Sequence[_Pipeline]) -> tuple[list[ParsedRule], list[Fault]]:
    pipeline = sum((one.sigma for one in pipelines[1:]), start=pipelines[0].sigma)
    collection = SigmaCollection([rule.sigma for rule in parsed], resolve_references=False)
    collection.names_to_rules.update({rule.id: rule.sigma for rule in parsed})
    changed: list[ParsedRule] = []
    faults: list[Fault] = []
    for rule in parsed:
        if isinstance(rule.sigma, SigmaCorrelationRule):
            # Conditions on a log source need the rules that a correlation refers to. A later pass reports missing ones.
            try:
                rule.sigma.resolve_rule_references(collection)
            except SigmaRuleNotFoundError:
                changed.append(rule)
                continue
        original = deepcopy(rule.sigma) if len(pipelines) > 1 else rule.sigma
        try:
            pipeline.apply(rule.sigma)
        except SigmaError as error:
            faults.append(sigma_fault(error, rule.document))
        except Exception as error:  # pySigma raises other errors for some values
            document = _failing(pipelines, original).document
            faults.append(document.fault(f"cannot be applied to '{rule.title}': {cause_of(error)}"))
        else:
            changed.append(rule)
    return changed, faults


def _failing(pipelines: Sequence[_Pipeline], rule: SigmaRule | SigmaCorrelationRule) -> _Pipeline:
    """Returns the first pipeline that cannot be applied to a rule."""
    for pipeline in pipelines[:-1]:
        try:
            pipeline.sigma.apply(deepcopy(rule))
        except Exception:  # any error of pySigma identifies the pipeline
            return pipeline
    return pipelines[-1]
