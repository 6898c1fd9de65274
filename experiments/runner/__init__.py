"""How a sweep is trained: planned into cohorts, run on cores, accelerators or a cluster, and kept through faults."""
