"""What `python -m signs_dist.inspect` finds out about photos, and how it is told: lines, JSON, a page, a config.

`looking.py` decodes the photos, `findings.py` says what is odd, `choices.py` chooses settings. The command
`signs_dist.data.audit` tells a part of it.
"""
