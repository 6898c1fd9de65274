"""`python -m experiments.learning_rate`: the learning-rate finder of makemore lecture 2."""
