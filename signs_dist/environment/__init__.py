"""Where a process runs: who launched it, cores, devices, other processes of the machine."""
