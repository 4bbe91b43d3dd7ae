"""How the processes of a run work together: how they find each other, sum gradients, and share devices.

This room is the only one that imports torch.distributed, and only `group`, `rendezvous` and `error_file` do so. It
imports from `data`, `models`, `learning`, `checkpointing` and the rooms without torch; it knows nothing of training.
"""
