"""The programs: each parses, imports late, and calls what does the work."""
