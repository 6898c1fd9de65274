"""One self-contained page about a sweep: `python -m experiments.report DIR`."""
