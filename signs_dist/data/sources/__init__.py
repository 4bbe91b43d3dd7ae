"""What `data.root` may be beside a folder that holds its splits: a table, photos that are not split, several of them.

Each is read where it lies into a `Collection`, divided where it is not split, and becomes an `ImageIndex` a split.
"""
