"""Settings: their types, defaults and docstrings, reading them from YAML and the command line, and explaining them.

Imports `signs_dist.errors` and no other room. torch is not imported, so a wrong config is refused at once.
"""
