"""What a run leaves on disk, and which process may write there: folder, manifest, lines, lease, sample log, digests.

Imports `signs_dist.errors`, `files`, `config`, `environment` and `monitoring`, and no torch.
"""
