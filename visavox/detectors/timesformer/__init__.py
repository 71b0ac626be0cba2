"""The reference detector: TimeSformer over faces and mel images, SyncNet distances beside it."""
