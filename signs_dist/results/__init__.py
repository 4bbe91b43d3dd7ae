"""What runs leave on disk, read back as values, for all that shows, compares and searches.

Nothing here imports torch, writes into a run folder, or prints.
"""
