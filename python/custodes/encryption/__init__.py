"""Encryption at rest: the keys of an installation, and deterministic encryption of texts."""
