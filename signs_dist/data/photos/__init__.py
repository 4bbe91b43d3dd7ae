"""Building a data set from photos: folders, archives, splits, and the record of a build."""
