"""From a video to its bundle."""
