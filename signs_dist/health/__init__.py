"""What can be wrong with machines before a run: measured on every rank, judged on rank 0, for the command doctor."""
