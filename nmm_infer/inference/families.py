"""Every kind of estimator by name, with schedules for two cores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nmm_infer.errors import InputError
from nmm_infer.inference.base import Estimator
from nmm_infer.inference.boosting import GradientBoosting
from nmm_infer.inference.ensemble import Ensemble
from nmm_infer.inference.flow_matching import FlowMatching
from nmm_infer.inference.nearest import NearestNeighbour
from nmm_infer.inference.posterior import PosteriorEstimator
from nmm_infer.inference.prior_mean import PriorMean
from nmm_infer.inference.regressor import Regressor
from nmm_infer.inference.ridge import RidgeGaussian
from nmm_infer.settings import DensitySettings, EncoderSettings, TrainingSettings

__all__ = ["FAMILIES"]

#: 121 steps make 16 tokens: an LSTM on a processor takes time for each.
ENCODER = EncoderSettings(width=64, layers=1, patch=8)
REGRESSION = TrainingSettings(epochs=30, batch_size=256, learning_rate=3e-3)
PRETRAINING = TrainingSettings(epochs=12, batch_size=256, learning_rate=3e-3)
DENSITY = TrainingSettings(epochs=8, batch_size=256, learning_rate=4e-3)
FINISHING = TrainingSettings(epochs=30, batch_size=512, learning_rate=4e-3)


def _check_names(settings: Mapping[str, Any], *more: str) -> None:
    """Refuse names that no family has: what a family does not read may be given to it."""
    names = ("encoder", "density", "training", "pretraining", "finishing", *more)
    for name in settings:
        if name not in names:
            raise TypeError(f"no setting {name!r} of a family; there are {', '.join(names)}")


def _baseline(make: Callable[[], Estimator], **unread: Any) -> Estimator:
    _check_names(unread)
    return make()


def _encoder(encoder: EncoderSettings | None, backbone: str, inputs: str) -> EncoderSettings:
    told = (encoder or ENCODER).model_dump() | {"backbone": backbone, "inputs": inputs}
    return EncoderSettings(**told)


def _regressor(
    backbone: str,
    *,
    encoder: EncoderSettings | None = None,
    training: TrainingSettings | None = None,
    **unread: Any,
) -> Estimator:
    _check_names(unread)
    return Regressor(_encoder(encoder, backbone, "sequence"), training or REGRESSION)


def _posterior(
    make: Callable[..., Estimator],
    backbone: str,
    inputs: str = "sequence",
    *,
    encoder: EncoderSettings | None = None,
    density: DensitySettings | None = None,
    training: TrainingSettings | None = None,
    pretraining: TrainingSettings | None = None,
    finishing: TrainingSettings | None = None,
    **more: Any,
) -> Estimator:
    _check_names(more, *(("members",) if make is Ensemble else ()))
    return make(
        _encoder(encoder, backbone, inputs), density or DensitySettings(), training or DENSITY,
        pretraining or PRETRAINING, finishing or FINISHING, **more,
    )  # fmt: skip


class _Families(dict[str, Callable[..., Estimator]]):
    """Names and what makes an estimator of each."""

    def __missing__(self, name: str) -> Callable[..., Estimator]:
        raise InputError(f"no family {name!r}; there are {', '.join(self)}")


#: Makes an estimator of each family: ``FAMILIES[name](encoder=..., density=..., training=...,
#: pretraining=..., finishing=...)``. Each argument is optional; the family says the backbone,
#: whatever ``encoder`` says, and what it has no use for it does not read. ``ensemble`` takes
#: ``members`` as well.
FAMILIES: Mapping[str, Callable[..., Estimator]] = _Families(
    {
        "prior_mean": partial(_baseline, PriorMean),
        "ridge": partial(_baseline, RidgeGaussian),
        "nearest": partial(_baseline, NearestNeighbour),
        "boosting": partial(_baseline, GradientBoosting),
        "mlp": partial(_regressor, "mlp"),
        "bilstm": partial(_regressor, "bilstm"),
        "lstm": partial(_regressor, "lstm"),
        "cnn_bilstm": partial(_regressor, "cnn_bilstm"),
        "transformer": partial(_regressor, "transformer"),
        "npe_mlp": partial(_posterior, PosteriorEstimator, "mlp"),
        "npe_bilstm": partial(_posterior, PosteriorEstimator, "bilstm"),
        "npe_lstm": partial(_posterior, PosteriorEstimator, "lstm"),
        "npe_cnn_bilstm": partial(_posterior, PosteriorEstimator, "cnn_bilstm"),
        "npe_transformer": partial(_posterior, PosteriorEstimator, "transformer"),
        "npe_features": partial(_posterior, PosteriorEstimator, "mlp", "features"),
        "fmpe": partial(_posterior, FlowMatching, "cnn_bilstm"),
        "ensemble": partial(_posterior, Ensemble, "cnn_bilstm"),
    }
)
