"""What one does with the models: sweeps and studies, each run with `python -m experiments.NAME`."""
