"""Train image classifiers with one command and one config, from a laptop CPU to a SLURM cluster."""

__version__ = "0.1.0.dev0"
