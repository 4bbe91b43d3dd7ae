"""Reports: one self-contained HTML page about one run, or about several.

Reads run folders through `signs_dist.results` and `signs_dist.run_folder`, and imports no torch.
"""

REPORT = "report.html"
"""The report of a run, in its run folder."""
