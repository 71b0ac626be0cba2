"""One folder a detector; `base` is what they share, `build` makes or loads one."""
