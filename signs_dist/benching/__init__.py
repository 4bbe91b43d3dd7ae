"""Measures what a config does on this machine, for the command `bench`: speeds, where the time goes, what to change."""
