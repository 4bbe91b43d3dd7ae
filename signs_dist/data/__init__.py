"""Data sets: build, draw, pack, plan, augment and load them."""
