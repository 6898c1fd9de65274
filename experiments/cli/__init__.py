"""The command line: flags, one-line errors, and what a terminal shows."""
