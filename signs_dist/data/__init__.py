"""Data sets, from photos on disk to batches of tensors: list, check, build, draw, pack, plan, load and augment.

A file here imports from this room and from the rooms without torch (config, environment, console and so on). It
receives a shard (index, count), never a process group.
"""
