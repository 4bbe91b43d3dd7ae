"""What a process reports about itself and how it ends: pulse, heartbeat, failure cards, signals, exit codes.

Imports `signs_dist.errors`, `files`, `config` and `environment`, and no torch.
"""
