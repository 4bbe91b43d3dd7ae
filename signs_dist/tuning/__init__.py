"""Ways to compute one network on this machine: which there are, how they are timed, which is chosen, and kept."""
