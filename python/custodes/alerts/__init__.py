"""Alerts: who else is told of findings, and of what about them."""
