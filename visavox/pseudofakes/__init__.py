"""Fakes made of real clips."""
