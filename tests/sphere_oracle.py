"""Potentials of current dipoles in concentric spheres, float64; shares no code with the package.

Separation of variables (Ary, Klein and Fender 1981, IEEE Trans. Biomed. Eng. 28:447-452; de Munck
and Peters 1993, IEEE Trans. Biomed. Eng. 40:1166-1174; Zhang 1995, Phys. Med. Biol. 40:335-349). A
unit current source at r0 in the innermost sphere, sigma_1, has the potential

    1 / (4 pi sigma_1) sum_n r0^n / r^(n+1) P_n(cos gamma)

and the boundaries add a multiple of r^n to each order. On the surface R of a homogeneous sphere
order n comes out (2n + 1) / n times as large, on that of a layered one (2n + 1) / n f_n times. A
dipole is the derivative by r0 along its moment, and the order 0 falls out.
"""

from __future__ import annotations

import math

import numpy as np


def layer_factors(n_orders, radii, conductivity):
    """f_n of the orders 1, 2, ..., n_orders; radii and conductivities from the inside out.

    Downwards from the surface, where the potential is 1 and no current leaves: in a layer it is
    a r^n + b r^-(n+1), and at its inner boundary potential and sigma dV/dr go on.
    """
    n = np.arange(1, n_orders + 1)
    potential, slope = np.ones(n_orders), np.zeros(n_orders)  # V and r dV/dr at the radius r
    r = radii[-1]
    for j in range(len(radii) - 1, 0, -1):
        a = ((n + 1) * potential + slope) / (2 * n + 1)
        b = (n * potential - slope) / (2 * n + 1)
        a, b = a * (radii[j - 1] / r) ** n, b * (r / radii[j - 1]) ** (n + 1)
        r = radii[j - 1]
        potential = a + b
        slope = (n * a - (n + 1) * b) * conductivity[j] / conductivity[j - 1]
    source = (n * potential - slope) / (2 * n + 1)  # at r, per unit of potential on the surface
    return n / (2 * n + 1) / (source * (r / radii[-1]) ** (n + 1))


def orders_for(eccentricity, precision=1e-18):
    """How many orders until n e^n is below the precision."""
    n = 3
    while n * eccentricity**n > precision:
        n += 1
    return n


def surface_potential(electrodes, source, radii, conductivity, n_orders=None):
    """Potentials of the moments along x, y and z [V/(Am)], shape (n_electrodes, 3).

    Electrodes on the outermost sphere and the source in the innermost, both in metres from the
    common centre; conductivities in S/m, from the inside out.
    """
    R = radii[-1]
    out = electrodes / np.linalg.norm(electrodes, axis=1, keepdims=True)
    r0 = float(np.linalg.norm(source))
    up = source / r0 if r0 > 0 else np.array([0.0, 0.0, 1.0])
    if n_orders is None:
        n_orders = orders_for(r0 / R)
    factors = layer_factors(n_orders, radii, conductivity)
    cosine = out @ up
    across = out - cosine[:, None] * up  # r0 times the gradient of cos gamma
    before, legendre = np.zeros_like(cosine), np.ones_like(cosine)  # P_-1, P_0
    slope_before, slope = np.zeros_like(cosine), np.zeros_like(cosine)  # P'_-1, P'_0
    total = np.zeros((len(out), 3))
    for n in range(1, n_orders + 1):
        slope_before, slope = slope, slope_before + (2 * n - 1) * legendre
        before, legendre = legendre, ((2 * n - 1) * cosine * legendre - (n - 1) * before) / n
        gradient = n * legendre[:, None] * up + slope[:, None] * across
        total += (2 * n + 1) / n * factors[n - 1] * (r0 / R) ** (n - 1) * gradient
    return total / (4 * math.pi * conductivity[0] * R**2)


def homogeneous_potential(electrodes, source, R, sigma):
    """The same for one sphere, in closed form.

    Brody, Terry and Ideker (1973), IEEE Trans. Biomed. Eng. 20:141-143. With d = |r - r0| the
    unit source has, but for a constant, 4 pi sigma V = 2/d - 1/R ln(R^2 - r.r0 + R d), because
    sum_n t^n P_n(c) / n = -ln[(1 - t c + sqrt(1 - 2 t c + t^2)) / 2].
    """
    apart = electrodes - source
    d = np.linalg.norm(apart, axis=1, keepdims=True)
    depth = R**2 - electrodes @ source[:, None] + R * d
    total = 2 * apart / d**3 + (electrodes + R * apart / d) / (R * depth)
    return total / (4 * math.pi * sigma)
