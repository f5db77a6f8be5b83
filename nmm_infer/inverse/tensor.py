"""Linear inverses as batches of torch matrices: plain tensors in, kernels out.

A kernel maps sensors to sources by a matrix product, ``kernel @ data``. Every tensor may have
leading batch dimensions, which broadcast: many heads, noise levels or windows at once. All is
computed and returned in float64, on the device of the gain. Channels are told apart by their order
alone, so gain, covariances and data must list the same channels and be seen through the same
reference and projections.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from nmm_infer.errors import InputError

__all__ = [
    "KernelMethod",
    "WeightNorm",
    "combine_orientations",
    "depth_weights",
    "lambda2_by_discrepancy",
    "lambda2_by_gcv",
    "lcmv",
    "minimum_norm",
    "whitener",
]

KernelMethod = Literal["MNE", "dSPM", "sLORETA", "eLORETA"]
WeightNorm = Literal["unit-noise-gain", "unit-noise-gain-invariant", "nai"]

#: A direction of a location is silent if its power is below this share of the strongest one: the
#: radial direction of a spherical head in MEG.
_SILENT = 1e-8
#: eLORETA stops when its weights change by less than this, relative to their norm.
_ELORETA_CHANGE = 1e-9
_ELORETA_STEPS = 500
#: Candidates for lambda2: eight a decade, signal-to-noise ratios of 40 dB to -40 dB.
_GRID = (-4.0, 4.0, 65)


def whitener(noise_covariance: Tensor, rank: int | None = None) -> Tensor:
    """Return the symmetric matrix that makes noise white and is zero where there is none.

    The inverse square root of the covariance over its ``rank`` largest eigenvalues (Engemann and
    Gramfort 2015, NeuroImage 108:328-342), zero along the others: the average reference and
    projections.

    Parameters
    ----------
    noise_covariance : torch.Tensor, shape (..., channel, channel)
        In the squared unit of the data. Channels of different units have to be scaled to similar
        variance first if their variances differ by more than 1e10 (EEG in V with MEG in T).
    rank : int, optional
        Rank of every covariance. Without, eigenvalues count that exceed the largest one times
        the number of channels times the spacing of the dtype of the input at 1; for float64, the
        threshold is 1.4e-14 with 64 channels.

    Returns
    -------
    torch.Tensor, shape (..., channel, channel)
        In float64.

    Raises
    ------
    InputError
        If a covariance is not square, finite and symmetric, has a negative or no positive
        eigenvalue, or has not the rank asked for.
    """
    return _whitener(_matrix("noise_covariance", noise_covariance), noise_covariance, rank)[0]


def depth_weights(
    gain: Tensor, exponent: float = 0.8, n_orient: int = 1, *, limit: float = 10.0
) -> Tensor:
    """Return prior variances that grow as the sensitivity to a source falls.

    The variance is 1 / s^exponent (Lin et al. 2006, NeuroImage 31:160-171), where s is the largest
    power that a unit moment at the location gives. Variances 1 / s above ``limit**2`` times the
    smallest are all set to the smallest of themselves, as MNE does.

    Parameters
    ----------
    gain : torch.Tensor, shape (..., channel, source * n_orient)
        Channels of one type. For the weights of MNE: the gradiometers where there are any, else
        the magnetometers, else EEG before the average reference.
    exponent : float
        0 for no weighting; 0.8 is MNE's default.
    n_orient : {1, 3}
        Components of a source.
    limit : float
        10 is MNE's default.

    Returns
    -------
    torch.Tensor, shape (..., source)
        The largest is 1.

    Raises
    ------
    InputError
        If the gain is not finite or all zero, or its shape, ``exponent`` or ``limit`` do not fit.
    """
    gain = _gain(gain, n_orient)
    if not (math.isfinite(exponent) and exponent >= 0 and math.isfinite(limit) and limit >= 1):
        raise InputError(
            f"depth weighting needs an exponent of at least 0 and a limit of at least 1, not "
            f"{exponent:g} and {limit:g}"
        )
    rows = _rows(gain, n_orient)
    power = torch.linalg.eigvalsh(rows @ rows.mT)[..., -1].clamp_min(0.0)
    variance = 1.0 / power
    bound = limit**2 / power.amax(-1, keepdim=True)
    cap = torch.where(variance > bound, variance, torch.inf).amin(-1, keepdim=True)
    variance = torch.minimum(variance, torch.where(cap.isinf(), bound, cap))
    return (variance / variance.amax(-1, keepdim=True)) ** exponent


def minimum_norm(
    gain: Tensor,
    noise_covariance: Tensor,
    lambda2: float | Tensor,
    method: KernelMethod = "MNE",
    n_orient: int = 1,
    *,
    depth: float | Tensor | None = None,
    rank: int | None = None,
) -> Tensor:
    """Return the kernels of the minimum-norm family.

    With whitened gain A and prior source covariance R, scaled to trace(A R A^T) = rank, the
    minimum-norm kernel is R A^T (A R A^T + lambda2 I)^-1 times the whitener (Hamalainen and
    Ilmoniemi 1994, Med Biol Eng Comput 32:35-42). Scales are those of MNE-Python.

    dSPM divides it by the standard deviation of what noise alone gives (Dale et al. 2000, Neuron
    26:55-67), sLORETA by that of what prior sources and noise give (Pascual-Marqui 2002, Methods
    Find Exp Clin Pharmacol 24D:5-12), over the root of lambda2. The three components of a source
    share one divisor, the root of the sum of their variances.

    eLORETA finds R so that its block at each source is proportional to
    (A_i^T (A R A^T + lambda2 I)^-1 A_i)^(-1/2) (Pascual-Marqui 2007, arXiv:0710.3341; 2011, Phil
    Trans R Soc A 369:3768-3784). Like sLORETA of fixed orientation, but unlike sLORETA with one
    divisor for three components, it places every single dipole without error.

    Parameters
    ----------
    gain : torch.Tensor, shape (..., channel, source * n_orient)
        Signal per unit moment. Components of a source follow each other. It has to be seen
        through the reference and projections of the noise covariance: subtract the mean over
        channels from the gain where the data are average-referenced.
    noise_covariance : torch.Tensor, shape (..., channel, channel)
        Of the data that the kernel will meet: divided by the number of trials for an average.
    lambda2 : float or torch.Tensor, shape (...)
        Regularisation, 1 / SNR^2 with the amplitude signal-to-noise ratio of whitened data. The
        kernel can be differentiated by it.
    method : {"MNE", "dSPM", "sLORETA", "eLORETA"}
        See above.
    n_orient : {1, 3}
        1 for fixed orientation, 3 for free.
    depth : float or torch.Tensor, shape (..., source), optional
        Exponent of :func:`depth_weights` of this gain, or prior variances in any unit. Not for
        eLORETA, whose estimate does not depend on them.
    rank : int, optional
        See :func:`whitener`.

    Returns
    -------
    torch.Tensor, shape (..., source * n_orient, channel)
        Moments (MNE, eLORETA) or dimensionless scores (dSPM, sLORETA) per unit of data. A source
        without gain gives zero.

    Raises
    ------
    InputError
        If shapes do not fit, values are not finite, the covariance is not one, the gain is zero,
        ``lambda2`` is not positive, or eLORETA does not converge.
    """
    if method not in ("MNE", "dSPM", "sLORETA", "eLORETA"):
        raise InputError(f"method must be MNE, dSPM, sLORETA or eLORETA, not {method!r}")
    if method == "eLORETA" and depth is not None:
        raise InputError("eLORETA weights depth itself: leave depth out")
    white, A, kept = _whitened(gain, noise_covariance, n_orient, rank)
    strength = _positive("lambda2", lambda2, A.device)
    _batch(gain=A.shape[:-2], lambda2=strength.shape)
    strength, size = strength[..., None, None], _trace(kept).round()
    if method == "eLORETA":
        return _eloreta(A, strength, n_orient, kept) @ white
    A, root = _scaled(A, _variances(gain, depth, n_orient), n_orient, size)
    B = A * root[..., None, :]
    kernel = torch.cholesky_solve(B, _factor(A @ A.mT + _left_out(kept), strength)).mT
    if method == "MNE":
        return kernel @ white
    other = kernel if method == "dSPM" else B.mT / strength
    variance = (kernel * other).sum(-1).unflatten(-1, (-1, n_orient)).sum(-1)
    deviation = variance.clamp_min(0.0).sqrt().repeat_interleave(n_orient, -1)
    return _ratio(kernel, deviation[..., None]) @ white


def combine_orientations(estimate: Tensor, n_orient: int) -> Tensor:
    """Return the length of each source's moment.

    Parameters
    ----------
    estimate : torch.Tensor, shape (..., source * n_orient, time)
        ``kernel @ data``.
    n_orient : {1, 3}
        Components of a source. With one, its absolute value is returned.

    Returns
    -------
    torch.Tensor, shape (..., source, time)

    Raises
    ------
    InputError
        If the number of rows is not a multiple of ``n_orient``.
    """
    if estimate.ndim < 2:
        raise InputError(f"estimate must be (..., source, time), not {tuple(estimate.shape)}")
    _check_orientations("estimate", estimate.shape[-2], n_orient)
    return torch.linalg.vector_norm(estimate.unflatten(-2, (-1, n_orient)), dim=-2)


def lcmv(
    gain: Tensor,
    data_covariance: Tensor,
    noise_covariance: Tensor,
    regularisation: float | Tensor = 0.05,
    n_orient: int = 1,
    *,
    weight_norm: WeightNorm | None = None,
    pick: Literal["vector", "max-power"] = "vector",
    rank: int | None = None,
) -> Tensor:
    """Return linearly constrained minimum-variance beamformers.

    With whitened gain A_i of a source and whitened data covariance D, loaded by
    ``regularisation`` times its mean diagonal, the filter of unit gain is
    (A_i^T D^-1 A_i)^-1 A_i^T D^-1 times the whitener (Van Veen et al. 1997, IEEE Trans Biomed Eng
    44:867-880). Silent directions, below 1e-8 of the power of the strongest direction of a source
    (the radial one of a spherical head in MEG), are left out.

    Parameters
    ----------
    gain : torch.Tensor, shape (..., channel, source * n_orient)
        See :func:`minimum_norm`.
    data_covariance, noise_covariance : torch.Tensor, shape (..., channel, channel)
        Of data and of noise, seen through the same reference as the gain.
    regularisation : float or torch.Tensor, shape (...)
        Share of the mean diagonal of the whitened data covariance, over all channels, that is
        added to its diagonal; 0.05 is MNE's default.
    n_orient : {1, 3}
        1 for fixed orientation, 3 for free.
    weight_norm : {"unit-noise-gain", "unit-noise-gain-invariant", "nai"}, optional
        Without, unit gain. "unit-noise-gain" scales each row so that noise alone gives variance
        1 (Sekihara and Nagarajan 2008, Adaptive Spatial Filters for Electromagnetic Brain
        Imaging, Springer). "unit-noise-gain-invariant" turns noise into white noise of the three
        components, (A_i^T D^-2 A_i)^(-1/2) A_i^T D^-1, which does not depend on the axes. "nai",
        the neural activity index, divides the rows of unit noise gain by the root of the noise
        power, the larger of the smallest eigenvalue of D and the loading.
    pick : {"vector", "max-power"}
        All components, or the component along the orientation of most power (unit gain) or of
        the best ratio of power to noise (Sekihara et al. 2004, IEEE Trans Biomed Eng
        51:1726-1734). The sign of an orientation is such that its largest component is positive.
    rank : int, optional
        Rank of the noise covariance, see :func:`whitener`.

    Returns
    -------
    torch.Tensor, shape (..., source * n_orient, channel) or (..., source, channel)
        The latter for "max-power". A source without gain gives zero.

    Raises
    ------
    InputError
        If shapes do not fit, values are not finite, a covariance is not one, ``regularisation`` is
        negative, or the data covariance is singular and not regularised.
    """
    if weight_norm not in (None, "unit-noise-gain", "unit-noise-gain-invariant", "nai"):
        raise InputError(
            "weight_norm must be None, unit-noise-gain, unit-noise-gain-invariant or nai, not "
            f"{weight_norm!r}"
        )
    if pick not in ("vector", "max-power"):
        raise InputError(f"pick must be vector or max-power, not {pick!r}")
    white, A, kept = _whitened(gain, noise_covariance, n_orient, rank)
    share = _positive("regularisation", regularisation, A.device, zero=True)
    D = _matrix("data_covariance", data_covariance).to(A.device)
    if D.shape[-1] != A.shape[-2]:
        raise InputError(f"gain has {A.shape[-2]} channels, data_covariance {D.shape[-1]}")
    _batch(gain=A.shape[:-2], data_covariance=D.shape[:-2], regularisation=share.shape)
    D = white @ D @ white
    trace = _trace(D)
    if not (trace > 0).all():
        raise InputError(f"{_first('data_covariance', ~(trace > 0))} has no power left")
    D = D + (trace / _trace(kept))[..., None, None] * _left_out(kept)
    load = share * trace / A.shape[-2]
    factor = _factor(D, load[..., None, None])
    rows = _rows(A, n_orient)
    B = torch.cholesky_solve(A, factor).mT.unflatten(-2, (-1, n_orient))
    gram = B @ rows.mT
    if pick == "max-power":
        along = _strongest(gram, B, weight_norm)[..., None, :]
        B, gram = along @ B, along @ gram @ along.mT
    if weight_norm == "unit-noise-gain-invariant":
        weights = _power(B @ B.mT, -0.5) @ B
    else:
        weights = _power(gram, -1.0) @ B
        if weight_norm is not None:
            weights = _ratio(weights, torch.linalg.vector_norm(weights, dim=-1, keepdim=True))
    if weight_norm == "nai":
        floor = torch.maximum(torch.linalg.eigvalsh(D)[..., 0], load)
        weights = weights / floor.sqrt()[..., None, None, None]
    return weights.flatten(-3, -2) @ white


def lambda2_by_gcv(
    gain: Tensor,
    noise_covariance: Tensor,
    data: Tensor,
    grid: Tensor | None = None,
    n_orient: int = 1,
    *,
    depth: float | Tensor | None = None,
    rank: int | None = None,
) -> Tensor:
    """Choose the regularisation of each window by generalised cross-validation.

    With the whitened data y, the matrix H that maps them to those that the minimum-norm estimate
    explains, and the whitened dimensions r, it minimises ``r |y - H y|^2 / trace(I - H)^2`` (Golub,
    Heath and Wahba 1979, Technometrics 21:215-223). One eigendecomposition serves all candidates.
    The scale of the noise covariance does not matter.

    Parameters
    ----------
    gain, noise_covariance, n_orient, depth, rank
        As for the :func:`minimum_norm` kernel (MNE, dSPM or sLORETA) that will be used.
    data : torch.Tensor, shape (..., channel, time)
        Windows, seen through the same reference as the gain.
    grid : torch.Tensor, shape (candidate,), optional
        Candidates. Without, 1e-4 to 1e4, eight a decade.

    Returns
    -------
    torch.Tensor, shape (...)
        The best candidate of each window. The last of the grid is a sign that there is no signal.

    Raises
    ------
    InputError
        See :func:`minimum_norm`; if a window is zero everywhere.
    """
    grid, residual, freedom, size, _ = _candidates(
        gain, noise_covariance, data, grid, n_orient, depth, rank
    )
    return grid[(size[..., None] * residual / freedom**2).argmin(-1)]


def lambda2_by_discrepancy(
    gain: Tensor,
    noise_covariance: Tensor,
    data: Tensor,
    grid: Tensor | None = None,
    n_orient: int = 1,
    *,
    depth: float | Tensor | None = None,
    rank: int | None = None,
) -> Tensor:
    """Choose the regularisation of each window by the discrepancy principle.

    The largest candidate whose estimate leaves no more than the noise unexplained: the whitened
    residual has at most the expected power of white noise, one for each whitened dimension and
    sample (Morozov 1966, Soviet Math Dokl 7:414-417). The scale of the noise covariance matters.

    Parameters
    ----------
    gain, noise_covariance, data, grid, n_orient, depth, rank
        See :func:`lambda2_by_gcv`.

    Returns
    -------
    torch.Tensor, shape (...)
        One candidate a window: the smallest one where none leaves so little.

    Raises
    ------
    InputError
        See :func:`lambda2_by_gcv`.
    """
    grid, residual, _, size, n_times = _candidates(
        gain, noise_covariance, data, grid, n_orient, depth, rank
    )
    grid, order = grid.sort()
    enough = residual[..., order] <= (size * n_times)[..., None]
    return grid[(enough.sum(-1) - 1).clamp_min(0)]


def _candidates(
    gain: Tensor,
    noise_covariance: Tensor,
    data: Tensor,
    grid: Tensor | None,
    n_orient: int,
    depth: float | Tensor | None,
    rank: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return candidates, what each leaves of the data and of the dimensions, and their numbers."""
    white, A, kept = _whitened(gain, noise_covariance, n_orient, rank)
    size = _trace(kept).round()
    A, _ = _scaled(A, _variances(gain, depth, n_orient), n_orient, size)
    data = _double("data", data, 2).to(A.device)
    if data.shape[-2] != A.shape[-2]:
        raise InputError(f"gain has {A.shape[-2]} channels, data {data.shape[-2]}")
    _batch(gain=A.shape[:-2], data=data.shape[:-2])
    if grid is None:
        grid = torch.logspace(*_GRID, dtype=A.dtype)
    grid = _positive("grid", grid, A.device)
    if grid.ndim != 1 or not len(grid):
        raise InputError(f"grid must be a list of candidates, not of shape {tuple(grid.shape)}")
    values, vectors = torch.linalg.eigh(A @ A.mT)
    energy = (vectors.mT @ (white @ data)).square().sum(-1)
    if not (energy.sum(-1) > 0).all():
        raise InputError(f"{_first('data', ~(energy.sum(-1) > 0))} is zero everywhere")
    left = grid[:, None] / (values.clamp_min(0.0)[..., None, :] + grid[:, None])
    residual = (left.square() * energy[..., None, :]).sum(-1)
    # Of the dimensions, those that the whitener takes away are left by every candidate.
    freedom = left.sum(-1) - (A.shape[-2] - size)[..., None]
    return grid, residual, freedom, size, data.shape[-1]


def _eloreta(A: Tensor, strength: Tensor, n_orient: int, kept: Tensor) -> Tensor:
    """Return the kernel on whitened data; iterate from equal weights to the fixed point."""
    size, rest = _trace(kept).round(), _left_out(kept)
    rows = _rows(A, n_orient)
    weights = torch.eye(n_orient, dtype=A.dtype, device=A.device).expand(*rows.shape[:-1], -1)
    weighted, explained, weights = _balanced(weights, rows, size)
    change = torch.full((), torch.inf, dtype=A.dtype)
    for _ in range(_ELORETA_STEPS):
        factor = _factor(explained + rest, strength)
        unmixed = torch.cholesky_solve(A, factor).mT.unflatten(-2, (-1, n_orient))
        new = _power(unmixed @ rows.mT, -0.5)
        weighted, explained, new = _balanced(new, rows, size)
        dims = (-3, -2, -1)
        change = torch.linalg.vector_norm(new - weights, dim=dims)
        change = (change / torch.linalg.vector_norm(new, dim=dims)).max()
        weights = new
        if change < _ELORETA_CHANGE:
            mixed = weighted.flatten(-3, -2).mT
            return torch.cholesky_solve(mixed, _factor(explained + rest, strength)).mT
    raise InputError(
        f"eLORETA still changes by {float(change):.1g} after {_ELORETA_STEPS} steps: raise lambda2"
    )


def _balanced(weights: Tensor, rows: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale source weights to trace(A R A^T) = rank; return R A^T, A R A^T and R."""
    weighted = weights @ rows
    explained = rows.flatten(-3, -2).mT @ weighted.flatten(-3, -2)
    scale = (size / _trace(explained))[..., None, None]
    return weighted * scale[..., None], explained * scale, weights * scale[..., None]


def _scaled(A: Tensor, prior: Tensor, n_orient: int, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gain of unit sources with trace(A A^T) = rank, and their standard deviations."""
    prior = prior.to(A.device)
    prior = prior.repeat_interleave(n_orient, -1)
    total = (A.square().sum(-2) * prior).sum(-1)
    if not (total > 0).all():
        raise InputError(f"{_first('depth', ~(total > 0))} leaves no source with gain")
    root = (prior * (size / total)[..., None]).sqrt()
    return A * root[..., None, :], root


def _variances(gain: Tensor, depth: float | Tensor | None, n_orient: int) -> Tensor:
    """Return prior variances, shape (..., source)."""
    n_sources = gain.shape[-1] // n_orient
    if depth is None:
        return torch.ones(n_sources, dtype=torch.float64)
    if not isinstance(depth, Tensor):
        return depth_weights(gain, depth, n_orient)
    depth = _double("depth", depth, 1)
    if depth.shape[-1] != n_sources or not (depth >= 0).all():
        raise InputError(
            f"depth must have a variance of at least 0 for each of the {n_sources} sources"
        )
    _batch(gain=gain.shape[:-2], depth=depth.shape[:-1])
    return depth


def _strongest(gram: Tensor, B: Tensor, weight_norm: WeightNorm | None) -> Tensor:
    """Return unit orientations (..., source, component) for "max-power"."""
    if weight_norm is None:
        along = torch.linalg.eigh(_power(gram, -1.0))[1][..., -1]
    else:
        root = _power(B @ B.mT, -0.5)
        along = (root @ torch.linalg.eigh(root @ gram @ root)[1][..., -1:])[..., 0]
        along = _ratio(along, torch.linalg.vector_norm(along, dim=-1, keepdim=True))
    largest = along.abs().argmax(-1, keepdim=True)
    return along * along.gather(-1, largest).sign()


def _whitened(
    gain: Tensor, noise_covariance: Tensor, n_orient: int, rank: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return whitener, whitened gain and projection on what is kept, on the gain's device."""
    G = _gain(gain, n_orient)
    covariance = _matrix("noise_covariance", noise_covariance)
    if covariance.shape[-1] != G.shape[-2]:
        raise InputError(
            f"gain has {G.shape[-2]} channels, noise_covariance {covariance.shape[-1]}"
        )
    _batch(gain=G.shape[:-2], noise_covariance=covariance.shape[:-2])
    white, kept = _whitener(covariance.to(G.device), noise_covariance, rank)
    A = white @ G
    # Rounding leaves 1e-16 of a gain that lies in the null space of the noise.
    left = torch.linalg.matrix_norm(A) > 1e-12 * torch.linalg.matrix_norm(
        white
    ) * torch.linalg.matrix_norm(G)
    if not left.all():
        raise InputError(f"{_first('gain', ~left)} is zero where the noise covariance is not")
    return white, A, kept


def _whitener(covariance: Tensor, given: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
    """Return whiteners, and the projections on the dimensions that they keep."""
    n = covariance.shape[-1]
    values, vectors = torch.linalg.eigh(covariance)
    top = values[..., -1:]
    bad = ~(top[..., 0] > 0)
    if bad.any():
        raise InputError(f"{_first('noise_covariance', bad)} has no positive eigenvalue")
    spacing = torch.finfo(given.dtype if given.is_floating_point() else torch.float64).eps
    bad = values[..., 0] < -math.sqrt(spacing) * top[..., 0]
    if bad.any():
        raise InputError(
            f"{_first('noise_covariance', bad)} has a negative eigenvalue, so it is no covariance"
        )
    if rank is None:
        keep = values > n * spacing * top
    else:
        if not isinstance(rank, Integral) or not 1 <= rank <= n:
            raise InputError(f"rank must be between 1 and the {n} channels, not {rank}")
        keep = (torch.arange(n, device=values.device) >= n - rank).expand_as(values)
        bad = (keep & (values <= n * torch.finfo(torch.float64).eps * top)).any(-1)
        if bad.any():
            raise InputError(f"{_first('noise_covariance', bad)} has a rank below {rank}")
    scale = torch.where(keep, values, torch.inf).rsqrt()
    kept = keep.to(values.dtype)
    return (vectors * scale[..., None, :]) @ vectors.mT, (vectors * kept[..., None, :]) @ vectors.mT


def _gain(gain: Tensor, n_orient: int) -> Tensor:
    """Return the gain in float64, or say what is wrong with it."""
    G = _double("gain", gain, 2)
    _check_orientations("gain", G.shape[-1], n_orient)
    zero = ~(G != 0).any(-1).any(-1)
    if zero.any():
        raise InputError(f"{_first('gain', zero)} is zero everywhere")
    return G


def _check_orientations(name: str, n: int, n_orient: int) -> None:
    if n_orient not in (1, 3):
        raise InputError(f"n_orient must be 1 or 3, not {n_orient!r}")
    if n == 0 or n % n_orient:
        raise InputError(f"{name} has {n} components, which are no sources of {n_orient} each")


def _matrix(name: str, matrix: Tensor) -> Tensor:
    """Return a covariance in float64, exactly symmetric, or say what is wrong with it."""
    C = _double(name, matrix, 2)
    if C.shape[-1] != C.shape[-2]:
        raise InputError(f"{name} must be (..., channel, channel), not {tuple(C.shape)}")
    spacing = torch.finfo(matrix.dtype if matrix.is_floating_point() else torch.float64).eps
    bad = (C - C.mT).abs().amax((-2, -1)) > math.sqrt(spacing) * C.abs().amax((-2, -1))
    if bad.any():
        raise InputError(f"{_first(name, bad)} is not symmetric, so it is no covariance")
    return (C + C.mT) / 2


def _double(name: str, values: Tensor, n_dims: int) -> Tensor:
    """Return a tensor in float64, or say that it has too few dimensions or a value amiss."""
    if not isinstance(values, Tensor):
        raise InputError(f"{name} must be a torch.Tensor, not {type(values).__name__}")
    if values.ndim < n_dims or not values.numel():
        raise InputError(
            f"{name} must have at least {n_dims} dimensions and a value, not shape "
            f"{tuple(values.shape)}"
        )
    bad = ~torch.isfinite(values)
    if bad.any():
        raise InputError(f"{_first(name, bad)} is not finite")
    return values.to(torch.float64)


def _positive(
    name: str, value: float | Tensor, device: torch.device, *, zero: bool = False
) -> Tensor:
    """Return a number or tensor of numbers in float64, or say that one is too small."""
    values = torch.as_tensor(value, dtype=torch.float64, device=device)
    bad = ~(torch.isfinite(values) & (values >= 0 if zero else values > 0))
    if bad.any():
        raise InputError(
            f"{_first(name, bad)} must be {'0 or more' if zero else 'above 0'} and finite, not "
            f"{float(values[bad][0]):g}"
        )
    return values


def _batch(**shapes: torch.Size) -> None:
    """Check that batch dimensions broadcast."""
    try:
        torch.broadcast_shapes(*shapes.values())
    except RuntimeError:
        told = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise InputError(f"batch dimensions do not fit: {told}") from None


def _first(name: str, bad: Tensor) -> str:
    """Name the first element of a batch that is bad."""
    place = ", ".join(str(k) for k in bad.nonzero()[0].tolist())
    return f"{name}[{place}]" if place else name


def _rows(A: Tensor, n_orient: int) -> Tensor:
    """Gain of each source: (..., source, component, channel)."""
    return A.mT.contiguous().unflatten(-2, (-1, n_orient))


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _left_out(kept: Tensor) -> Tensor:
    """Return the projection on what the whitener takes away.

    The whitened gain is zero there. The mean power is added there to what has to be inverted.
    """
    return torch.eye(kept.shape[-1], dtype=kept.dtype, device=kept.device) - kept


def _factor(matrix: Tensor, load: Tensor) -> Tensor:
    """Return the Cholesky factor of a matrix with a loaded diagonal."""
    n = matrix.shape[-1]
    identity = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    factor, failed = torch.linalg.cholesky_ex(matrix + load * identity)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    spacing = n * torch.finfo(matrix.dtype).eps
    bad = (failed > 0) | ~(pivots.amin(-1) > spacing * pivots.amax(-1))
    if bad.any():
        raise InputError(
            f"{_first('the covariance of the whitened data', bad)} is singular: regularise more"
        )
    return factor


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a negative power of small symmetric matrices, zero along silent directions."""
    values, vectors = torch.linalg.eigh(matrix)
    heard = values > _SILENT * values[..., -1:].clamp_min(0.0)
    scale = torch.where(heard, values, torch.inf) ** exponent
    return (vectors * scale[..., None, :]) @ vectors.mT


def _ratio(values: Tensor, divisor: Tensor) -> Tensor:
    """Divide, and give zero where the divisor is."""
    return values / torch.where(divisor > 0, divisor, torch.inf)
