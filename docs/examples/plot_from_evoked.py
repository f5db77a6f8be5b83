"""
From an evoked response to a posterior
======================================

The whole line in one page, on a recording whose true parameters are known: a 64-channel EEG is
simulated trial by trial, averaged with plain MNE-Python, and handed to :func:`nmm_infer.infer`.

.. warning::

   The budget here is **tiny** so that the page builds in seconds: 600 training simulations and
   300 that test the fit, where the defaults are 10,000 each. What follows shows the workflow.
   It is no basis for statements about how well any parameter can be inferred.
"""

# %%
# A recording
# -----------
# 200 visual stimuli, one every 1.2 s. The stimulus reaches the column of the right lateral
# occipital cortex; all other regions are active too. Up to the average this is ordinary MNE code:
# replace it by your own.

import mne

from nmm_infer import Study, infer
from nmm_infer.demonstration import simulate_recording
from nmm_infer.report import figures
from nmm_infer.workflow import with_truth

raw, truth = simulate_recording(Study.evoked())
raw.filter(0.5, 40.0, verbose="error")
epochs = mne.Epochs(raw, tmin=-0.4, tmax=0.4, baseline=(None, 0), preload=True, verbose="error")
noise_cov = mne.compute_covariance(epochs, tmax=0.0, method="shrunk", verbose="error")
evoked = epochs.average()
evoked

# %%
# A study
# -------
# The study holds everything that the answer depends on, beside the recording. Here the default
# one with a smaller budget, smaller networks and shorter training; the same entries can be written
# in a TOML file (see :doc:`/guide/study`). The region is named, so that all simulations have their
# focus there and few are enough; without a name the strongest region is chosen, in simulations too.

study = Study.evoked().replace(
    protocol={"region": truth.attrs["region"]},
    budget={"training": 600, "calibration": 300, "predictive": 100, "draws": 2000},
    encoder={"width": 32, "layers": 1},
    density={"transforms": 3, "hidden": 32},
    pretraining={"epochs": 12, "batch_size": 64},
    training={"epochs": 12, "batch_size": 64},
    seed=3,
)
result = infer(evoked, study, noise_cov=noise_cov, progress=False)
result = with_truth(result, truth)
result.region

# %%
# The recording and its sources
# -----------------------------
# The figures are those of the report.

with figures.style():
    sensors = figures.recording(result)

# %%
with figures.style():
    cortex = figures.source_map(result)

# %%
# Posterior against prior
# -----------------------
# Grey is the prior, blue the posterior, dashed the truth. A posterior that equals the prior says
# that this recording tells nothing about that parameter. The sign and size of
# ``source_scale`` show best in an average; single synaptic parameters hardly at all
# with this budget.

with figures.style():
    densities = figures.densities(result)

# %%
# The same numbers, in the parameters' units:

table = result.summary()[["prior_mean", "prior_sd", "mean", "sd", "contraction"]]
table.drop_vars("unit").to_dataframe().round(2)

# %%
# Does the model reproduce the recording?
# ---------------------------------------
# Simulations from the posterior, with sensor noise, against the recording. This is necessary for
# trust and far from sufficient.

with figures.style():
    overlay = figures.predictive(result)

# %%
# Can the posterior be trusted?
# -----------------------------
# Ranks of true parameters among posterior draws, on simulations that the fit has not seen. Curves
# within the grey band are what a correct posterior gives; with this few simulations the band is
# wide and a large error would pass unseen. Contraction on the right: how much is learned on
# average.

with figures.style():
    trust = figures.calibration(result)

# %%
# All of it goes into three files with ``nmm_infer.write_results(result, "out")``: see
# :doc:`/guide/files`.
