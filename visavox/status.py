"""What became of an input, in the words that manifests, details files, bundles and reports share."""

from __future__ import annotations

from typing import Literal

Status = Literal["ok", "no_audio", "no_face", "too_short", "failed"]
"""ok · no_audio (scored without sound) · no_face, too_short, failed (no bundle; scored at the stated prior, or, where there is no
face, by the sound alone with a detector that can)."""
SCORED: tuple[Status, ...] = ("ok", "no_audio")
"""Outcomes that leave a bundle and with it a score of the network's own."""
