"""What a checkpoint holds, how it is written and verified, and which checkpoint a run resumes from.

Imports torch and the rooms listed before it in tests/test_layers.py, but no training.
"""
