"""Searching for good settings: what is tried, which processes try it, and when a trial is stopped early.

A trial is one choice of the settings that are searched. It has a run for each seed, each in an ordinary run folder.
Nothing here imports torch.
"""
