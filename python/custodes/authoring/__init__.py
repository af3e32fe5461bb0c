"""Tools for rule authors: tests, explanations and backtests, before a rule pages anyone."""

from custodes.authoring.test_runner import RuleTestResult, find_test_files, run_tests

__all__ = ["RuleTestResult", "find_test_files", "run_tests"]
