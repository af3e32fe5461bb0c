"""Authentication of callers, their access to data, and pseudonyms."""
