r"""
Units flip identifiability
==========================

"Connection strengths cannot be recovered from an evoked potential": so says a study of deep
networks on simulated EEG (Tilwani and O'Reilly, 2024-25). In its released code potentials are in
volts, while the slope of the sigmoid, .56, is a number per *milli*\ volt, and the largest firing
rate was divided by a hundred with the voltages. A slope a hundred thousand times too small makes a
linear filter of the column. Here both columns answer the same question, and then the same
estimators are asked.

See :doc:`/guide/columns` for the studies and their limits.
"""

# %%
# One column, two unit systems
# ----------------------------
# Both presets have the same nine parameters. At their typical values one connection after another
# is made 20 % stronger, and the response is drawn as a difference from the typical one, in
# percent of its peak.

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import units
from nmm_infer import Study
from nmm_infer.models import get_model
from nmm_infer.runs import build_task

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
shares = ["alpha_1", "alpha_2", "alpha_3", "alpha_4"]


def responses(study):
    """Return times and responses: typical, then with one share after another 20 % larger."""
    task = build_task(study, [], stream="figure")
    typical = get_model(study.model).defaults
    fixed = {p.name: p.low for p in task.prior.parameters if p.distribution == "fixed"}
    rows = [typical | fixed] + [typical | fixed | {s: 1.2 * typical[s]} for s in shares]
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    potential, _ = task.respond(values, np.arange(len(rows)))
    return task.clock.sample_times, potential - potential[:, :1]


asis = Study.preset("tilwani2025_asis").replace(column={"trials": 3})
# The typical column oscillates at 120 /s: at 60 /s it rests.
narrow = Study.preset("tilwani2025_consistent_narrow")
drive = {"drive": {"distribution": "fixed", "low": 60.0}}
consistent = narrow.replace(prior={**narrow.model_dump()["prior"], **drive})

shown, axes = plt.subplots(2, 2, figsize=(8, 5), sharex=True, layout="constrained")
for column, (study, title) in enumerate(((asis, "as released"), (consistent, "units that agree"))):
    times, response = responses(study)
    peak = np.abs(response[0]).max()
    axes[0, column].plot(times, response[0], color="k")
    axes[0, column].set(title=title, ylabel="response, mV" if column == 0 else "")
    for k in range(len(shares)):
        change = 100 * (response[k + 1] - response[0]) / peak
        axes[1, column].plot(times, change, label=rf"$\alpha_{k + 1}$")
    axes[1, column].set(xlabel="time from the pulse, s", xlim=(-0.1, 0.6))
axes[1, 0].set_ylabel("change, % of the peak")
axes[1, 1].legend(frameon=False, ncols=2)

# %%
# On the left a fifth more of any connection changes the response by less than a percent of its
# peak; on the right by far more. The upper curves differ as well: on the left a monophasic hump,
# which is the inhibitory synapse's own answer to a stimulus that the code sends straight into it;
# on the right a response with the feedback of a cortical column in it.
#
# What can be known at all
# ------------------------
# Only the products :math:`C_k = \alpha_k C` act on a column: four numbers of five parameters. So
# even an oracle that reads them off without error cannot tell the five apart, and :math:`R^2` has
# a ceiling that follows from the prior alone:

for name, value in units.ceilings(narrow.build_prior(), n=4000).items():
    print(f"{name:8s} {value:.2f}")

# %%
# What estimators find
# --------------------
# The experiment ``experiments/units.py`` trains the same estimators on both, with the mean of a
# window removed. Bars are :math:`R^2` at 20 dB; black lines are the ceilings.

root = Path(units.__file__).parents[1]
record = json.loads((root / "experiments/results/units.json").read_text())
figure = units.figure(record)

# %%
# How sure that is
# ----------------
# Fisher information with the prior is a second opinion that needs no network: the contraction
# that the model allows, beside that of the estimator, for both unit systems and the same prior.

for name in ("as it is, narrow prior", "units agree, narrow prior"):
    study = record["answers"]["20 dB"][name]
    print(name)
    for parameter, possible in study["contraction_possible"].items():
        found = study["contraction"][parameter]
        print(f"  {parameter:8s} the model allows {possible:5.2f}, the estimator has {found:5.2f}")

# %%
# With the released units the model allows next to nothing of any connection, so no estimator can
# find one: that "connections cannot be recovered" is there an artefact of units, not of
# physiology. With units that agree some of the products are found, and each share as far as the
# products allow.
#
# References
# ----------
# Tilwani D, O'Reilly C (2024-25). Benchmarking deep Jansen-Rit parameter inference: an in silico
# study. arXiv:2406.05002; released code of March 2025.
