"""Training a run: the loop, and all that a run does around it."""
