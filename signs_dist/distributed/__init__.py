"""How the processes of a run work together: how they find each other, sum gradients, and share devices.

This room alone imports torch.distributed, in `group`, `rendezvous` and `error_file`. It imports from `data`, `models`,
`learning`, `checkpointing` and the rooms without torch; it knows nothing of training.
"""
