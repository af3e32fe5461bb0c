"""Alerts: receivers of findings, and the data each of them gets."""
