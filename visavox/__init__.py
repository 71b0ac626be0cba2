"""Visavox: face against voice. Shared parts of an open framework for audio-visual deepfake detection."""
