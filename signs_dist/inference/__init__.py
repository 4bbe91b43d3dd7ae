"""Using a trained model: reading it back from its run folder, predicting photos, scoring a split of a data set.

May import every room but the commands.
"""
