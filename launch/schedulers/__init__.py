"""What runs a job: SLURM, or this machine."""
