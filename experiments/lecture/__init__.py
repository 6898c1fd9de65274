"""`python -m experiments.lecture`: the makemore lecture, number by number, with ours beside the published ones."""
