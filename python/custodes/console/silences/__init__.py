"""Silences: pages and API."""
