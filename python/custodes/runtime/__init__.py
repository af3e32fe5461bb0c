"""The running monitor: its loop, its tasks, bounds, statistics and metrics."""
