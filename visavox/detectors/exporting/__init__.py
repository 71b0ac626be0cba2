"""Trained detectors in forms that other programs read: ONNX, a hub folder, a citation."""

from __future__ import annotations
