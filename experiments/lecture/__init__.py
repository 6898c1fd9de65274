"""`python -m experiments.lecture`: the makemore lecture, number by number, with our numbers beside the published ones."""
