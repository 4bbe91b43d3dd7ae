"""From photos in a folder or a zip to a data set; `signs_dist.data.build` is the command.

A file here imports from data/ and from what data/ may import. Data sets are read again by `signs_dist.data.folder`.
"""
