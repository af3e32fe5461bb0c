"""What a rule's author has at hand before the rule pages anyone."""

from custodes.authoring.test_runner import RuleTestResult, find_test_files, run_tests

__all__ = ["RuleTestResult", "find_test_files", "run_tests"]
