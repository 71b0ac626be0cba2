"""GenD: a vision transformer of which only the layer norms are tuned, on aligned faces (Yermakov et al., WACV 2026)."""

from __future__ import annotations
