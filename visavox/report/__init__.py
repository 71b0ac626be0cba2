"""Reports of scores, for people and for programs."""
