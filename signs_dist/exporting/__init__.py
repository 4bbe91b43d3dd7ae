"""A trained model as files that others use without this project, each tried out before it is handed over."""
