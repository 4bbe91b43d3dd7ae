"""For SLURM: batch templates for sites that write their own scripts, and a throw-away cluster in one folder for tests.

Imports `signs_dist` and nothing of `submitit`. A wheel holds this package as `signs_dist.slurm`: imports within it are
relative.
"""
