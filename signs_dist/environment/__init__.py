"""Where a process runs: its launcher, cores, devices, its machine's other processes; where the toolkit is installed.

The only room that reads launchers' environment variables. Imports `signs_dist.errors`, `files` and `config`, and no
torch.
"""
