"""The numbers around a network: losses, metrics, optimizers, schedules, precision."""
