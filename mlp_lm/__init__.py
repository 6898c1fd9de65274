"""Multilayer-perceptron language models as pure functions. Importing the package alone does not import JAX."""
