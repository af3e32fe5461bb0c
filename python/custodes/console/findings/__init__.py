"""Findings: pages, API and saved views."""
