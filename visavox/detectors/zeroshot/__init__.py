"""Scores of mouth against voice that need no training.

scorer = ready(config.load("zeroshot"))      # visavox.detectors.build
scorer.score(bundles)                        # (N,) P(fake)
"""
