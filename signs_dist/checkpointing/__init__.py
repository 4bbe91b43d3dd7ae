"""What is saved, how it is kept on disk, and what a run may go on from."""
