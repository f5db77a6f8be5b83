"""
At which noise is a parameter found, and by whom?
=================================================

Nine parameters of a cortical column, one evoked response, five kinds of noise at seven levels
from -20 to 40 dB. All kinds of estimators, from predicting the prior to neural posteriors, are
trained once on all of it and told which noise they face. This page shows how such a benchmark is
made, on a scale that takes seconds, and then reads the results of the experiment.
"""

# %%
# A small benchmark
# -----------------
# A study names column, prior and protocol; the observer has head, electrodes and noise. Levels
# are fixed once for all runs: noise scaled to each run's own response would tell its parameters.

import json
from pathlib import Path

from experiments import noise_robustness
from experiments.columns import campaign, levels, realised
from nmm_infer import Study
from nmm_infer.diagnostics import score_estimator, score_table
from nmm_infer.inference import FAMILIES
from nmm_infer.runs import column_observer

study = Study.preset("column5_narrow")
noise = levels(study, ("white", "pink"), (0.0, 20.0))
observer = column_observer(study, noise)
training, test = campaign(study, 1500, "training"), campaign(study, 300, "test")
names = ("prior_mean", "ridge", "nearest")
fits = {name: FAMILIES[name]().fit(training, observer) for name in names}

# %%
# "20 dB" is 20 dB for the median run. A few columns answer with spikes that are many times as
# strong, so single runs have ratios far from it:

for snr, quantiles in realised(study, (0.0, 20.0)).items():
    print(f"{snr} dB: 5 %, median and 95 % of the runs have", [round(q) for q in quantiles])

# %%
# Scores carry intervals; a correlation is never printed alone, and predicting the mean is a row.

seen = column_observer(study, noise.only("white", 20.0)).view(test, "test")
scores = {name: score_estimator(fit, seen, n_draws=64) for name, fit in fits.items()}
print(score_table(scores))

# %%
# The experiment
# --------------
# ``python -m experiments.noise_robustness`` writes the file that is drawn here.

root = Path(noise_robustness.__file__).parents[1]
record = json.loads((root / "experiments/results/noise_robustness.json").read_text())
print(record["command"])
figure = noise_robustness.figure(record)

# %%
# Dashed lines are baselines. A family below zero is worse than predicting the mean. The table of
# the same file tells calibration at each level, and all scores of each parameter:

print(noise_robustness.table(record))
