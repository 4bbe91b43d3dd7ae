"""What a run leaves on disk beside its checkpoints."""
