"""Evidence: the events behind a finding."""
