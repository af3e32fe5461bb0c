"""Encryption at rest: the keys of an installation, and texts encrypted so that equal texts stay equal."""
