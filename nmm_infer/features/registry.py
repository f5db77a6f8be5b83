"""All features by name."""

from __future__ import annotations

from nmm_infer.errors import InputError
from nmm_infer.features._labels import Feature
from nmm_infer.features.evoked import EVOKED
from nmm_infer.features.spectrum import BANDS, SPECTRUM

__all__ = ["CONNECTIVITY", "FEATURES", "Feature", "find"]

#: Features of pairs of channels: means over all pairs, and of one pair as ``NAME:CHANNEL:OTHER``.
CONNECTIVITY = {
    "correlation": Feature("1", "Pearson's correlation"),
    **{
        f"{kind}_{band}": Feature("1", f"{text} from {low:g} to {high:g} Hz")
        for kind, text in (
            ("coherence", "coherence"),
            ("imaginary_coherence", "imaginary part of coherency, in magnitude,"),
        )
        for band, (low, high) in BANDS.items()
    },
}

#: Every feature that :func:`~nmm_infer.features.describe` knows, by name.
FEATURES: dict[str, Feature] = {**EVOKED, **SPECTRUM, **CONNECTIVITY}


def find(name: str) -> Feature:
    """Return a feature by its name; one of a pair is ``NAME:CHANNEL:OTHER``.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    kind, _, pair = name.partition(":")
    if kind not in FEATURES or (pair and (kind not in CONNECTIVITY or pair.count(":") != 1)):
        raise InputError(
            f"no feature {name!r}; there are {', '.join(FEATURES)}, and {next(iter(CONNECTIVITY))} "
            "and its like of two regions as correlation:REGION:OTHER"
        )
    return FEATURES[kind]
