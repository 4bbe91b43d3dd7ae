"""What the command `replay` does: train a run again up to some steps, look into them, and show what was seen.

Its module `program` is what several processes run.
"""
