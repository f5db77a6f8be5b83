"""Linear inverses, used by protocols and as network input."""

from nmm_infer.inverse.linear import Method, inverse_operator, region_operator, source_estimate

__all__ = ["Method", "inverse_operator", "region_operator", "source_estimate"]
