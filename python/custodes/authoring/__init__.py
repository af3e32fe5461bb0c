"""What a rule's author has at hand before the rule pages anyone."""

from custodes.authoring.test_runner import CaseResult, find_test_files, run_tests

__all__ = ["CaseResult", "find_test_files", "run_tests"]
