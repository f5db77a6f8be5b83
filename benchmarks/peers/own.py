"""nmm_infer."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import Case, Prepared
from nmm_infer.models import get_model
from nmm_infer.simulation import Clock, Connection, Network, integrate


def prepare(case: Case, simulations: int, seconds: float) -> Prepared:
    """See :mod:`benchmarks.peers`.

    Options: ``dtype``; ``speeds``, the range of conduction speeds where every simulation has one of
    its own; ``antialias``.
    """
    options = case.options or {}
    clock = Clock(
        0.0, seconds, step=case.step, every=case.every, settle=0.0,
        antialias=options.get("antialias", True),
    )  # fmt: skip
    lengths = None if case.lengths is None else np.array(case.lengths)
    network = Network([Connection(np.array(case.weights), lengths)])
    speeds = options.get("speeds")
    speed = case.speed if speeds is None else np.linspace(*speeds, simulations)
    dtype = options.get("dtype", "float32")

    def run():
        result = integrate(
            get_model("jansen_rit"), clock, network=network, constants=case.parameters,
            drive=case.drive, noise=case.sigma, strength=case.strength, speed=speed,
            batch=simulations, dtype=dtype,
            initial=np.reshape(case.initial, (-1, 1, 1)),
        )  # fmt: skip
        return result.outputs["potential"][:, :, 1:]

    return Prepared(run, dtype)
