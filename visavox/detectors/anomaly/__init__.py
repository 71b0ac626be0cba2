"""A detector that never sees a fake: it learns how real faces and voices move together, and scores the departure.

detector   AnomalyDetector, trained by train.py with configs/anomaly.json: stage `sync`, then stage `density`
streams    mouths and sound, each through a network of its own, and their fusion; decoder: how likely the next step is
guard      Collapse, what stops a training whose features have become constant
outputs    training_curves.png, evaluation_results.png, detailed_results.csv
"""
