"""Using a trained model: reading it from its run folder, predicting photos, scoring a split of a data set.

This room may import every room but `rehearsal`, and no command.
"""
