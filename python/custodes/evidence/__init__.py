"""Evidence: the events behind findings, in a tamper-evident log."""
