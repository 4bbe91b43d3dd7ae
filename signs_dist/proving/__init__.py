"""What the command `prove` does: which parts of a run are retrained, what is compared, and what is said of it."""
