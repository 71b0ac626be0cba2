"""What is computed of sound, and of sound against picture."""
