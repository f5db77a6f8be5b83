"""
How many simulations do I need?
===============================

Simulations are cheap and training is not, so the question is when more of them stop to matter.
The answer depends on what is asked: information about all parameters together, error of one of
them, or calibration. ``python -m experiments.learning_curves`` trains some estimators on growing
numbers of runs and scores all of them on the same fresh ones.
"""

# %%
# Cost
# ----
# What a simulation costs, here and now:

import json
from pathlib import Path
from time import perf_counter

from experiments import learning_curves
from nmm_infer import Study
from nmm_infer.runs import simulate_column

study = Study.preset("tilwani2025_consistent_narrow")
simulate_column(study, 100, "warm-up")
begin = perf_counter()
runs = simulate_column(study, 5000, "training")
seconds = perf_counter() - begin
print(f"{len(runs):,} parameter sets, {runs.accepted:.0%} of them rest: {seconds:.1f} s")

# %%
# Return
# ------
# Information is the log density of the true parameters over that of the prior, in nats, on fresh
# runs: what a posterior knows, with an honest penalty where it is too sure.

root = Path(learning_curves.__file__).parents[1]
record = json.loads((root / "experiments/results/learning_curves.json").read_text())
print(record["command"])
figure = learning_curves.figure(record)

# %%
# The same file as a table, with the mean error and the calibration at each size. Where the
# likelihood is exact there is another way than more simulations: :doc:`/guide/references`.

print(learning_curves.table(record))
