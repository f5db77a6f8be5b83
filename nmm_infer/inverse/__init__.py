"""Linear inverses, used by protocols and as network input."""

from nmm_infer.inverse.linear import (
    Method,
    RegionOperators,
    inverse_operator,
    region_operators,
    source_estimate,
)

__all__ = ["Method", "RegionOperators", "inverse_operator", "region_operators", "source_estimate"]
