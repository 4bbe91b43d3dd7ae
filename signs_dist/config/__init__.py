"""Settings: what a config may hold, reading it from YAML and the command line, and explaining it."""
