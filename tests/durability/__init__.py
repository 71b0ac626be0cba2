"""Runs that are killed, hang or lose a machine, and come to the same end; cases as those of `tests.cases`."""
