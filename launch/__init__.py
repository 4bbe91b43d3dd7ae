"""How a run starts: on several processes of this machine, on several nodes, and as a job of a scheduler.

`submit.py` and `local.py` are the commands. A file imports from signs_dist and from launch, never from `submit.py`.
Only this room imports submitit.
"""
