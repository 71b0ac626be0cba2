"""Processes that survive their tasks, and the one that owns the GPU."""
