"""Linear inverses, used by protocols and as network input.

Batched tensor forms for networks stand in :mod:`nmm_infer.inverse.tensor`, which is imported only
where it is used: it needs torch.
"""

from nmm_infer.inverse.linear import (
    MOMENTS,
    Method,
    RegionOperators,
    choose_lambda2,
    estimate_sources,
    inverse_operator,
    lcmv_kernel,
    region_operators,
    source_estimate,
    source_kernel,
)

__all__ = [
    "MOMENTS",
    "Method",
    "RegionOperators",
    "choose_lambda2",
    "estimate_sources",
    "inverse_operator",
    "lcmv_kernel",
    "region_operators",
    "source_estimate",
    "source_kernel",
]
