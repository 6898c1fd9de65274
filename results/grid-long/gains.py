"""`python results/grid-long/gains.py`: what 200,000 steps gain over the same cells of ../grid at 50,000 steps.

Writes tables/gains.csv (dev losses at 50,000 steps minus those at 200,000, paired by cell and seed, averaged by each
axis) and tables/shares.csv (what explains the variance of the 40 cells at either length).
"""

import csv
from pathlib import Path

from experiments import open_sweep
from experiments.analysis.effects import importance_rows
from experiments.analysis.studies import estimate, make_study

HERE = Path(__file__).parent
CELL = ("hidden_size", "embedding_dim", "block_size")


def write(name, rows):
    """Write rows as a table beside this file."""
    (HERE / "tables").mkdir(exist_ok=True)
    with (HERE / "tables" / name).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


long = open_sweep(HERE).rows
seeds = {row["seed"] for row in long}
short = [row for row in open_sweep(HERE.parent / "grid").rows if row["batch_size"] == 32]
short = [row for row in short if row["embedding_dim"] >= 10 and row["seed"] in seeds]
short_loss = {(*(row[axis] for axis in CELL), row["seed"]): row["dev_loss"] for row in short}

gains = []
for axis in CELL:
    for value in sorted({row[axis] for row in long}):
        by_seed = []
        for seed in sorted(seeds):
            mine = [row for row in long if (row[axis], row["seed"]) == (value, seed)]
            gained = [short_loss[(*(row[name] for name in CELL), seed)] - row["dev_loss"] for row in mine]
            by_seed.append(sum(gained) / len(gained))
        gains.append({"axis": axis, "value": value, **estimate(by_seed).columns("gain"), "n_cells": len(mine)})
write("gains.csv", gains)

studies = (make_study("50,000 steps", short), make_study("200,000 steps", long))
write("shares.csv", [row for row in importance_rows(studies) if not row["without"]])
