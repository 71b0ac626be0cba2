"""The split CSV, who belongs together in it, and protocols that share it out."""
