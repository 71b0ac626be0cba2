"""Corpora -> split CSV: which clip is real or fake, and which split it belongs to.

visavox corpora folder --root data/bundles --output data/train_dev_test.csv
"""
