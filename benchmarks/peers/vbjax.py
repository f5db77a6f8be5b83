"""vbjax: its jr_dfun and make_sde under jax.vmap and, with several cores, jax.pmap.

In float32, without delays. The library leaves coupling and noise to its user. Here coupling is the
sum of the senders' rates, at both stages of Heun's scheme, as a matrix product; noise is drawn by
jax.random within the compiled function. make_sde returns all
states of all steps, from which the samples are taken.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import vbjax

from benchmarks.peers import Case, Prepared


def prepare(case: Case, simulations: int, seconds: float) -> Prepared:
    """See :mod:`benchmarks.peers`."""
    assert case.lengths is None
    ms, n, steps = case.milliseconds(), case.nodes, case.steps(seconds)
    theta = vbjax.JRTheta(
        A=ms["A"], B=ms["B"], a=ms["a"], b=ms["b"], v0=ms["v0"], nu_max=ms["e0"], r=ms["r"],
        J=ms["C"], a_1=ms["alpha_1"], a_2=ms["alpha_2"], a_3=ms["alpha_3"], a_4=ms["alpha_4"],
        mu=ms["drive"], I=0.0,
    )  # fmt: skip
    weights = jnp.asarray(case.strength * np.array(case.weights), jnp.float32)
    start = jnp.asarray(np.repeat(case.initial_ms()[:, None], n, 1), jnp.float32)

    def slope(y, p):
        rates = 2 * p.nu_max / (1 + jnp.exp(p.r * (p.v0 - (y[1] - y[2]))))
        return vbjax.jr_dfun(y, weights @ rates, p)

    # The diffusion is a column: noise enters y4 only.
    diffusion = jnp.zeros((6, 1), jnp.float32).at[4].set(ms["noise"])
    _, loop = vbjax.make_sde(case.step * 1e3, slope, lambda *_: diffusion)

    def one(key):
        states = loop(start, jax.random.normal(key, (steps, 1, n)), theta)
        return (states[:, 1] - states[:, 2])[case.every - 1 :: case.every].T

    keys = jax.random.split(jax.random.PRNGKey(1), simulations)
    # The library makes a device of every core.
    devices = min(case.threads, jax.local_device_count())
    if devices > 1 and simulations % devices == 0:
        many = jax.pmap(jax.vmap(one))
        keys = keys.reshape(devices, -1, keys.shape[-1])
    else:
        many = jax.jit(jax.vmap(one))

    def run():
        return np.asarray(many(keys)).reshape(simulations, n, -1)

    return Prepared(run, "float32")
