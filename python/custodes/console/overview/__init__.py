"""The overview page and its live updates."""
