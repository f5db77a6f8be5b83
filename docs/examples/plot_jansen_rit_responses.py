r"""
What a column does with a stimulus
==================================

A cortical column answers a short volley of action potentials with an evoked response. Here one
Jansen-Rit column is simulated alone, without noise and without a head, to see how the response
depends on the synaptic gains and rate constants, and from which background drive on a column
oscillates by itself. The equations are in :doc:`/guide/science`.
"""

# %%
# The prior, and the responses it allows
# --------------------------------------
# The default study draws five parameters of a column. Each draw becomes one column; all rest at
# their own equilibrium with a background drive of 15 /s until the volley arrives at 50 ms.

import matplotlib.pyplot as plt
import numpy as np

from nmm_infer import Study, simulate
from nmm_infer.models import JANSEN_RIT
from nmm_infer.simulation import Volley

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

prior = Study.evoked().build_prior().select(["A", "B", "a", "b", "C"])
theta = prior.sample(400, seed=0)
volley = Volley(onset=0.05, amplitude=200.0)


def respond(columns, n):
    """Responses of n columns in mV, each less its value at rest."""
    data = simulate(
        constants=columns, drive=15.0, stimuli=volley, tmin=-0.1, duration=0.6, sfreq=500.0,
        n_simulations=n,
    )["potential"].isel(region=0)  # fmt: skip
    return data - data.isel(time=0)


columns = {p.name: theta.sel(parameter=p.name).values[:, None] for p in prior.parameters}
responses = respond(columns, 400)
published = respond({}, 1)[0]
ms = 1e3 * responses["time"].values

figure, (rate, potential) = plt.subplots(
    2, 1, figsize=(9, 5), sharex=True, height_ratios=[1, 3], layout="constrained"
)
rate.fill_between(
    ms,
    volley.courses(responses["time"].values, batch=1)[0],
    color="#e8a33d", alpha=0.7, lw=0,
)  # fmt: skip
rate.set(ylabel="volley [1/s]")
potential.plot(ms, responses[:60].T, color="#1f6feb", lw=0.6, alpha=0.35)
low, middle, high = np.quantile(responses, [0.05, 0.5, 0.95], axis=0)
potential.fill_between(ms, low, high, color="#1f6feb", alpha=0.12, lw=0, label="90 % of draws")
potential.plot(ms, middle, color="#1f6feb", lw=2.2, label="median of draws")
potential.plot(ms, published, color="#111827", lw=2, ls="--", label="published values")
potential.set(
    xlabel="time from the event [ms]",
    ylabel="$y_1 - y_2$ less rest [mV]",
    xlim=(-100, 500),
    ylim=(1.15 * np.quantile(responses, 0.001), 1.15 * np.quantile(responses, 0.999)),
)
_ = potential.legend(frameon=False, loc="upper right")

# %%
# One parameter at a time
# -----------------------
# Each panel moves one parameter across its prior range and keeps the others at their published
# values. The excitatory gain ``A`` and rate constant ``a`` do most: a large ``A`` or a small ``a``
# carries the column over the threshold of its excitatory loop, and a second, larger peak follows
# the first. The inhibitory ``B`` and ``b`` shape the return to rest, and ``C`` alone does little.
# On the scalp, where the size of the response also depends on the unknown ``source_scale``, only
# its shape tells these apart.

n = 13
figure, grid = plt.subplots(1, 5, figsize=(12, 3.3), sharex=True, sharey=True, layout="constrained")
for axes, parameter in zip(grid, prior.parameters, strict=True):
    values = np.linspace(parameter.low, parameter.high, n)
    curves = respond({parameter.name: values[:, None]}, n)
    for k, curve in enumerate(curves):
        axes.plot(ms, curve, color=plt.cm.viridis(k / (n - 1)), lw=1.2)
    axes.set(title=parameter.label, xlabel="time [ms]", xlim=(0, 400))
    scale = plt.cm.ScalarMappable(plt.Normalize(parameter.low, parameter.high), "viridis")
    figure.colorbar(scale, ax=axes, location="bottom", aspect=14, pad=0.03)
_ = grid[0].set_ylabel("$y_1 - y_2$ less rest [mV]")

# %%
# Rest or oscillation
# -------------------
# At rest, :math:`v = y_1 - y_2` fixes the other states, so the drive that holds the column there
# follows in closed form: the equilibrium curve. The eigenvalues of the linearised equations tell
# where it is stable. A column on the lower branch rests until the branch ends near 114 /s; from
# there on it cycles, in large slow spikes at first and then near 10 Hz, until the upper branch
# becomes stable at a Hopf point. The dots are the extremes of simulations kicked by a volley.

k = JANSEN_RIT.defaults
A, B, a, b = (k[name] for name in "ABab")
c1, c2, c3, c4 = (k[f"alpha_{i}"] * k["C"] for i in (1, 2, 3, 4))


def sigmoid(v):
    return 2 * k["e0"] / (1 + np.exp(k["r"] * (k["v0"] - v)))


def slope(v):
    s = sigmoid(v) / (2 * k["e0"])
    return 2 * k["e0"] * k["r"] * s * (1 - s)


v = np.linspace(-7, 13, 4001)
y0 = A / a * sigmoid(v)
p = a / A * (v + B / b * c4 * sigmoid(c3 * y0)) - c2 * sigmoid(c1 * y0)
jacobian = np.zeros((len(v), 6, 6))
jacobian[:, [0, 1, 2], [3, 4, 5]] = 1.0
for row, rate_constant in ((3, a), (4, a), (5, b)):
    jacobian[:, row, row] = -2 * rate_constant
    jacobian[:, row, row - 3] = -(rate_constant**2)
jacobian[:, 3, 1], jacobian[:, 3, 2] = A * a * slope(v), -A * a * slope(v)
jacobian[:, 4, 0] = A * a * c1 * c2 * slope(c1 * y0)
jacobian[:, 5, 0] = B * b * c3 * c4 * slope(c3 * y0)
eigenvalues = np.linalg.eigvals(jacobian)
leading = eigenvalues[np.arange(len(v)), eigenvalues.real.argmax(axis=1)]
stable = leading.real < 0
changes = np.flatnonzero(np.diff(stable.astype(int)))
hopf = [i for i in changes if abs(leading[i].imag) > 1 and p[i] > 0]


def kicked(columns, drive, n):
    """Last second of long simulations, in mV, after a strong volley at the beginning."""
    kick = Volley(onset=-1.5, amplitude=300.0)
    data = simulate(
        constants=columns, drive=drive, stimuli=kick, tmin=4.0, settle=6.0, n_simulations=n
    )
    return data["potential"].values[:, 0]


drives = np.linspace(0, 360, 121)
signals = kicked({}, drives[:, None], len(drives))
low, high = signals.min(axis=1), signals.max(axis=1)

# %%
# Columns of the prior differ: the right panel shows which share of them oscillates by itself at
# each drive. The default drive of an evoked study (0 to 30 /s) lies where columns rest until the
# stimulus arrives; that of a spontaneous study (180 to 240 /s) lies where they cycle.

coarse = np.linspace(0, 360, 37)
share = []
for drive in coarse:
    ongoing = kicked(columns, drive, 400)
    share.append((np.ptp(ongoing, axis=1) > 1.0).mean())

figure, (curve, onset) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
cycles = high - low > 0.5
curve.fill_between(drives, low, high, where=cycles, color="#1f6feb", alpha=0.12, lw=0)
curve.plot(drives[cycles], low[cycles], ".", color="#1f6feb", ms=4)
curve.plot(drives[cycles], high[cycles], ".", color="#1f6feb", ms=4, label="extremes of the cycle")
curve.plot(p, np.where(stable, v, np.nan), color="#111827", lw=2.4, label="stable equilibrium")
curve.plot(p, np.where(stable, np.nan, v), color="#111827", lw=1, ls=":", label="unstable")
for i in hopf:
    curve.plot(p[i], v[i], "o", color="#d9480f", ms=7)
    curve.annotate(
        f"{p[i]:.0f} /s", (p[i], v[i]), xytext=(6, -14), textcoords="offset points",
        color="#d9480f",
    )  # fmt: skip
curve.set(
    xlim=(0, 360), ylim=(-7, 14.5), xlabel="drive $p$ [1/s]", ylabel="$y_1 - y_2$ [mV]",
    title="The published column",
)  # fmt: skip
curve.legend(frameon=False, loc="upper left", ncols=3, fontsize=8, columnspacing=1)
onset.plot(coarse, share, color="#1f6feb", lw=2.2)
for (start, stop), name in (((0, 30), "evoked"), ((180, 240), "spontaneous")):
    onset.axvspan(start, stop, color="#e8a33d", alpha=0.25, lw=0)
    onset.text((start + stop) / 2, 0.97, name, ha="center", va="top", fontsize=9, rotation=90)
_ = onset.set(
    xlim=(0, 360), ylim=(0, 1), xlabel="drive $p$ [1/s]",
    ylabel="share of columns that oscillate", title="400 columns drawn from the prior",
)  # fmt: skip
