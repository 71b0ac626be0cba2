"""DeepFense's detector of synthetic voices: WavLM and Nes2Net over windows of four seconds of the sound."""

from __future__ import annotations
