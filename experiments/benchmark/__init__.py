"""`python -m experiments.benchmark`: what a step, an evaluation, a compilation and a sweep cost, as ratios."""
