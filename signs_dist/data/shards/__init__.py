"""Tar shards in WebDataset's format: many images in a few large files.

A sample is the members of a tar with one key, as `cat/1.jpg` and `cat/1.cls`; `.cls` holds the number of its class,
or `.json` or `.txt` tells it.
Source: https://github.com/webdataset/webdataset, "The WebDataset Format".
"""
