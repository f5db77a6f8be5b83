r"""
What an evoked response depends on
==================================

Before anything is inferred from an evoked response one may ask which parameters shape it at all.
This is a question about the model alone: here the Jansen-Rit column with nine uncertain parameters,
the synaptic gains ``A``, ``B`` and rate constants ``a``, ``b``, the number of connections ``C`` and
the shares :math:`\alpha_1` to :math:`\alpha_4` of its four connections. Sobol indices are shares of
the variance over the whole prior: the *first order* of a parameter is what it explains alone, the
*total order* what it explains alone and together with others. See :doc:`/guide/sensitivity`.
"""

# %%
# The column and its prior
# ------------------------
# Each parameter is uniform within 15 % of its published value. At a background drive of 15 /s all
# of these columns rest until the pulse of 50 ms arrives: their parameters are independent of each
# other, which the decomposition of the variance needs.

import matplotlib.pyplot as plt
import numpy as np

from nmm_infer.models import get_model
from nmm_infer.runs import build_task
from nmm_infer.sensitivity import convergence, overall, plots, survey
from nmm_infer.study import Study

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

published = get_model("jansen_rit").defaults
names = ["A", "B", "a", "b", "C", "alpha_1", "alpha_2", "alpha_3", "alpha_4"]
prior = {
    name: {
        "distribution": "uniform",
        "low": 0.85 * published[name],
        "high": 1.15 * published[name],
    }
    for name in names
}
conditions = {
    "drive": {"distribution": "fixed", "low": 15.0},
    "stimulus_amplitude": {"distribution": "fixed", "low": 200.0},
}
column = {"stratum": "all"}
study = Study.preset("tilwani2025_consistent").replace(prior={**prior, **conditions}, column=column)
task = build_task(study, [], stream="sensitivity")

# %%
# Sample by sample
# ----------------
# A Saltelli design of 1,024 base points is 11,264 runs. SALib computes the indices of each sample
# and their intervals.

at = np.arange(-0.03, 0.4, 0.005)
response = survey(task, n=1024, at=at, resamples=50)
figure_course = plots.curves(response)

# %%
# The gain ``A`` and the rate ``a`` of excitation own the first 50 ms: the answer of one synapse,
# before any loop is closed. The connections come in from about 80 ms on, and as they do the first
# orders fall: from 200 ms on no parameter explains more than a fifth of the variance alone, while
# total orders reach a half. The late response is shaped by combinations, and an estimator that is
# asked for one parameter has little to go by there.
#
# One number a parameter for the whole response is the mean over time, weighted with the variance.

everything = overall(response)
everything[["S1", "ST"]].round(2).to_dataframe()[["S1", "ST"]]

# %%
# Features
# --------
# Features of the response are outputs like any other.

features = ["peak", "peak_latency", "onset_latency", "half_width", "negative_peak", "area"]
described = survey(task, n=1024, outputs=features, second_order=True, resamples=50)
figure_features = plots.bars(described)

# %%
# First orders of the peak and of its onset add up to more than nine tenths: these are nearly sums
# of what each parameter does. Those of its latency, its width and the area leave three quarters to
# combinations. Of the latency, these are the pairs that act together; grey where the interval holds
# zero. What is left belongs to three and more.

figure_pairs = plots.interactions(described.sel(feature="peak_latency"))

# %%
# In groups
# ---------
# Only the products :math:`C_k = \alpha_k C` enter the equations. As one group the five parameters
# of the connections have an index of their own, at half the number of runs.

groups = {
    "gains": ["A", "B"],
    "rates": ["a", "b"],
    "connections": ["C", "alpha_1", "alpha_2", "alpha_3", "alpha_4"],
}
grouped = survey(task, n=1024, at=at, groups=groups, resamples=50)
figure_groups = plots.curves(grouped)

# %%
# Large enough?
# -------------
# The first blocks of a design are a smaller design, so convergence takes the same runs.

grown = convergence(task, n=1024, outputs=["peak"], resamples=50)
figure_trend = plots.trend(grown.sel(feature="peak"))

# %%
# A slip of units
# ---------------
# The code that was released with the study of Tilwani and O'Reilly states the slope of the sigmoid
# per millivolt but applies it to volts. Its sigmoid is hardly bent, and the loops of the column
# stay open. The same survey of that column, over the same ranges of the same parameters:

asis = Study.preset("tilwani2025_asis").replace(
    prior=prior, column={"trials": 1, "interval": None, **column}
)
slipped = overall(survey(build_task(asis, [], stream="sensitivity"), n=1024, at=at, resamples=2))

places = np.arange(len(names))
figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
for shift, label, indices, colour in (
    (-0.2, "consistent units", everything, "#1f6feb"),
    (0.2, "as released", slipped, "#e8a33d"),
):
    axes.bar(places + shift, indices["ST"].sel(parameter=names), 0.4, color=colour, label=label)
axes.set_xticks(places, names)
axes.set(ylabel="total order, all samples")
_ = axes.legend(frameon=False)

# %%
# There the response is that of one inhibitory synapse, ``B`` and ``b``, and the connections have no
# share in it:

slipped["ST"].to_series().map("{:.1e}".format)

# %%
# What is not in the response cannot be recovered from it, by any estimator. That the connections of
# a column are out of reach was a property of that code. With consistent units they shape the
# response, mostly together: which combinations can be told is a question for a posterior.
