"""Training a run. `loop` has the five steps of training, in order; the other files do all else that a run needs.

To see what a run does, read `run` from top to bottom. This room does not import commands, `inference` or
`rehearsal`. `loop` imports no other file of this room: it knows nothing of processes and files.
"""
