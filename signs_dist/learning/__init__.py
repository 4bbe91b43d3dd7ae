"""What training computes around a network: losses, metrics, optimizers, schedules, averages and precision.

A file here imports from this room, from the rooms without torch (config, environment and so on), and from data/ and
models/. It knows one process: sums over several processes are in distributed/.
"""
