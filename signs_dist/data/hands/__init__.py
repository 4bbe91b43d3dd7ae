"""Drawn hands: the pose, the surface that the camera sees, and the picture; `signs_dist.data.synthetic` is the command.

A file here imports only this room, numpy and Pillow.
"""
