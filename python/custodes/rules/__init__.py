"""Rules: compiles Sigma files to a plan for the engine."""

from custodes.rules.load import LoadedRules, load_rules, own_rules, read_rules, shipped_pack
from custodes.rules.model import Rule
from custodes.rules.plan import build_plan
from custodes.rules.ruleset import Ruleset, sharing_faults

__all__ = [
    "LoadedRules",
    "Rule",
    "Ruleset",
    "build_plan",
    "load_rules",
    "own_rules",
    "read_rules",
    "sharing_faults",
    "shipped_pack",
]
