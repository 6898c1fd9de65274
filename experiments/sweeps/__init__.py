"""What is to be run: grids of configurations, named sweeps, and what a folder was asked for. No JAX."""
