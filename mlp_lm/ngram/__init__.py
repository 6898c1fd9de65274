"""Models that count: the baselines beside a neural one."""
