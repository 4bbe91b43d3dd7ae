"""How a run starts: on several processes of this machine, on several nodes, and as a job of a scheduler.

`submit.py` and `local.py` are the commands. A file imports from signs_dist and from this package, never from
`submit.py`. Only this room imports submitit.

A checkout imports the package as `launch`, a wheel as `signs_dist.launch`: imports within it are relative, and
`program.py` and `signs_dist/environment/installation.py` tell its name.
"""
