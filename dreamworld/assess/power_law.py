"""Power laws through measured losses (Kaplan et al., 2020, arXiv:2001.08361): L = a x^-b, and L = a x^-b + c.

Losses are resamples [R, K] at K sizes x [K]. Every resample gets a fit of its own, so that percentiles over them are
the intervals of the exponents.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST = 3  # points of a line in log-log: two always lie on one
LEAST_OFFSET = 4  # points of a law with an offset, which has one number more
EXPONENTS = np.arange(1, 401) / 100  # that are tried with an offset


class PowerLaw(NamedTuple):
    """L = a x^-b + c of each resample, [R]."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def at(self, x: np.ndarray) -> np.ndarray:
        """Losses [R, M] at sizes x [M]."""
        return self.a[:, None] * x[None] ** -self.b[:, None] + self.c[:, None]


def fit_line(x: np.ndarray, loss: np.ndarray) -> PowerLaw:
    """log L = log a - b log x by least squares; c is 0. NaN where a loss is not above 0."""
    logs = np.log(x)
    apart = logs - logs.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        y = np.log(np.where(loss > 0, loss, np.nan))
    slope = (y * apart).sum(1) / (apart**2).sum()
    return PowerLaw(np.exp(y.mean(1) - slope * logs.mean()), -slope, np.zeros(len(loss)))


def fit_offset(x: np.ndarray, loss: np.ndarray) -> PowerLaw:
    """L = a x^-b + c with a, c >= 0 and b of `EXPONENTS`, by least squares of relative errors.

    For each b the best a and c are known in closed form. Where no a above 0 helps, b is NaN: nothing falls.
    """
    middle = np.exp(np.log(x).mean())
    shape = (len(loss),)
    best, a, b, c = (np.full(shape, np.inf), np.zeros(shape), np.full(shape, np.nan), np.zeros(shape))
    with np.errstate(invalid="ignore", divide="ignore"):
        v = 1 / np.where(loss > 0, loss, np.nan)
        for exponent in EXPONENTS:
            u = (x / middle) ** -exponent * v
            own_a, own_c = _least_squares(u, v)
            error = ((own_a[:, None] * u + own_c[:, None] * v - 1) ** 2).sum(1)
            better = error < best * (1 - 1e-9)
            best, c = np.where(better, error, best), np.where(better, own_c, c)
            a = np.where(better, own_a * middle**exponent, a)
            b = np.where(better, np.where(own_a > 0, exponent, np.nan), b)
    return PowerLaw(a, b, c)


def _least_squares(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a, c >= 0 [R] with the least sum of (a u + c v - 1)^2 over axis 1."""
    uu, vv, uv = (u * u).sum(1), (v * v).sum(1), (u * v).sum(1)
    u1, v1 = u.sum(1), v.sum(1)
    determinant = uu * vv - uv**2
    a, c = (u1 * vv - v1 * uv) / determinant, (v1 * uu - u1 * uv) / determinant
    falls = a > 0
    a, c = np.where(falls, a, 0.0), np.where(falls, c, v1 / vv)
    return np.where(c < 0, u1 / uu, a), np.maximum(c, 0.0)
