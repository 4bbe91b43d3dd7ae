"""For SLURM: batch templates for sites that write their own scripts, and a throw-away cluster in one folder for tests.

Imports `signs_dist` and nothing of `submitit`.
"""
