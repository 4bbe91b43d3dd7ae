"""Training a run: `loop` has the five steps of training in order, the other files are what a run does around them.

Read `run` from top to bottom to see what a run does. This room imports no command and neither `inference` nor
`rehearsal`. `loop` imports no other file of this room: it knows nothing of processes and files.
"""
