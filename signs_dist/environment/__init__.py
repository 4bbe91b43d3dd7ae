"""Where a process runs: its launcher, cores, devices, and the other processes of its machine.

The only room that reads launchers' environment variables. Imports `signs_dist.errors`, `files` and `config`, and no
torch.
"""
