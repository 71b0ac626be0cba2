"""Arithmetic on tables of scores: metrics, intervals, calibration, the submission."""
