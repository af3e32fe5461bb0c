"""Rules: compiles Sigma files to a plan for the engine."""

from custodes.rules.load import load_rules, own_rules, shipped_pack
from custodes.rules.model import Rule
from custodes.rules.plan import build_plan
from custodes.rules.ruleset import Ruleset, sharing_faults

__all__ = ["Rule", "Ruleset", "build_plan", "load_rules", "own_rules", "sharing_faults", "shipped_pack"]
