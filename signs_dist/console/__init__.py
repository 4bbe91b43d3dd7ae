"""What a person sees: the parser and the errors of every command, lines, bars and tables.

Imports the rooms below it (`config`, `environment`, `monitoring`, `run_folder`), and no torch: `--help` answers at
once.
"""
