"""From bundles to a trained run."""
