"""For SLURM: templates for sites that write their own batch scripts, and a real cluster in one folder to try on."""
