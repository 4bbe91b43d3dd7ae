"""What the commands `parity` and `drill` do: train one config several times, kill some of the runs, compare them.

This room may import every other room; only the two commands import it. Its modules `recording` and `kill_in_save` are
programs that the commands start as the processes of a run.
"""
