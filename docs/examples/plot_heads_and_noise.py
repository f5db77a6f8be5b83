r"""
One region, many heads, any noise
=================================

What a region's moment is worth at the sensors depends on the head, and what can be seen of it on
the noise. Here the lead field of one region is drawn for skulls of different conductivity and for
a head of another shape, then the kinds of noise side by side, and last a few windows with known
sources.
"""

# %%
# One region through different heads
# ----------------------------------
# A lead field is the signal of one nAm, spread over the region along its outward normals. A skull
# that conducts less takes amplitude; so does a larger head. Data and lead field are referenced by
# one operator.

import matplotlib.pyplot as plt
import mne
import numpy as np

from nmm_infer.anatomy import HeadSettings, template_head
from nmm_infer.anatomy.sensors import reference
from nmm_infer.campaign import run
from nmm_infer.demonstration import CHANNELS
from nmm_infer.observation.noise import (
    Blinks,
    ElectrodePops,
    LineNoise,
    SlowDrifts,
    noise_from_level,
    power_law_noise,
    white_noise,
)
from nmm_infer.scenarios import Bank, Patches, WaveformTask, Windows

info = mne.create_info(list(CHANNELS), 250.0, "eeg").set_montage("fsaverage_1005")
average = reference(info)
heads = {
    "template": HeadSettings(),
    "skull .004 S/m": HeadSettings(skull=0.004),
    "skull .015 S/m": HeadSettings(skull=0.015),
    "another shape": HeadSettings(deformation=8.0, seed=2),
}
maps = {
    name: 1e9
    * average(template_head(info, settings=settings).leadfield).sel(region="precentral-lh")
    for name, settings in heads.items()
}
limit = max(float(abs(values).max()) for values in maps.values())

figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
for panel, (name, values) in zip(axes, maps.items(), strict=True):
    image, _ = mne.viz.plot_topomap(
        values.values, info, axes=panel, show=False, vlim=(-limit, limit), contours=4
    )
    panel.set_title(name, fontsize=10)
figure.colorbar(image, ax=axes, shrink=0.7, label="nV per nAm")

# %%
# Kinds of noise
# --------------
# All have one method, `sample`. The signal-to-noise ratio is mean signal power over mean noise
# power, over channels and samples; each kind can be had at any ratio.

n_times = 500
kinds = {
    "white": white_noise(info, 5e-6, n_times),
    "1/f": power_law_noise(info, 5e-6, n_times, 250.0, (0.5, 100.0)),
    "1/f, correlated": noise_from_level(info, 5e-6, n_times, 250.0, (0.5, 100.0)),
    "line": LineNoise(info, 250.0),
    "blinks": Blinks(info, 250.0, present=True),
    "drifts": SlowDrifts(info, 250.0),
    "pops": ElectrodePops(info, 250.0, present=True),
}
rng = np.random.default_rng(4)
figure, axes = plt.subplots(1, len(kinds), figsize=(11, 3.2), sharex=True, layout="constrained")
for panel, (name, kind) in zip(axes, kinds.items(), strict=True):
    draw = 1e6 * kind.sample(1, n_times, rng)[0]
    strongest = int(abs(draw).max(axis=1).argmax())
    draw = draw[sorted({strongest, *range(0, len(draw), 6)})]
    step = 6 * draw.std() + 1e-9
    panel.plot(
        np.arange(n_times) / 250.0, (draw + step * np.arange(len(draw))[:, None]).T, lw=0.6,
        color="#1f6feb",
    )  # fmt: skip
    panel.set(title=name, yticks=[], xlabel="time [s]")
    panel.spines[["left", "top", "right"]].set_visible(False)

# %%
# Windows with known sources
# --------------------------
# A patch of cortex with the waveform of a spike, at 3 dB: what the sensors show, and what is true.

task = WaveformTask("spike", seed=0, stream="example", duration=2.0, sfreq=250.0)
bank = Bank(run(task, task.design(64)))
windows = Windows(
    template_head(info), Patches((1, 1), area_cm2=(15, 20)), bank, kinds["1/f, correlated"],
    (3.0, 3.0), average, n_times=n_times, n=100,
)  # fmt: skip
batch = windows.batch([0, 1, 2])
truth = windows.truth([0, 1, 2])
moments = truth.activity()

figure, axes = plt.subplots(2, 3, figsize=(10, 4.6), sharex=True, layout="constrained")
for k in range(3):
    axes[0, k].plot(windows.times, 1e6 * batch["sensors"][k].T, lw=0.4, color="#6b7280")
    axes[1, k].plot(windows.times, moments[k].T, lw=0.4, color="#d9480f")
    area = float(batch["area"][k, 0])
    axes[0, k].set_title(
        f"patch of {area:.0f} cm², SNR {float(batch['snr'][k]):.0f} dB", fontsize=10
    )
    axes[1, k].set_xlabel("time [s]")
axes[0, 0].set_ylabel("sensors [µV]")
axes[1, 0].set_ylabel("moments [nAm]")
