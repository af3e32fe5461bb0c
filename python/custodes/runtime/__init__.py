"""The running monitor: main loop, tasks, limits, statistics and metrics."""
