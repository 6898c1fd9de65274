"""What is computed from finished runs: intervals, effects, mixtures, tables and figures."""
