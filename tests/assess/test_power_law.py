"""Power laws: exponents of known laws are found, with an offset and without, in every resample of its own."""

import numpy as np
import pytest

from dreamworld.assess import power_law

X = np.array([1e3, 4e3, 1e4, 9e4, 3e5])


def losses(a, b, c=0.0):
    return a * X**-b + c


def test_a_line_in_log_log_is_found():
    found = power_law.fit_line(X, np.stack([losses(3, 0.5), losses(0.2, -0.1)]))
    np.testing.assert_allclose(found.b, [0.5, -0.1], atol=1e-9)
    np.testing.assert_allclose(found.a, [3, 0.2])
    np.testing.assert_allclose(found.at(X)[0], losses(3, 0.5))


def test_an_offset_hides_the_exponent_from_a_line_and_not_from_a_law_that_has_one():
    loss = losses(3, 0.5, 0.04)[None]
    assert power_law.fit_line(X, loss).b[0] < 0.2
    found = power_law.fit_offset(X, loss)
    np.testing.assert_allclose([found.b[0], found.c[0], found.a[0]], [0.5, 0.04, 3], rtol=1e-6)
    np.testing.assert_allclose(found.at(X), loss)


def test_without_an_offset_both_agree():
    found = power_law.fit_offset(X, losses(2, 0.25)[None])
    np.testing.assert_allclose([found.b[0], found.c[0], found.a[0]], [0.25, 0, 2], atol=1e-6)


def test_what_does_not_fall_has_no_exponent_beside_an_offset():
    found = power_law.fit_offset(X, np.stack([np.full(5, 0.3), losses(0.1, -0.2)]))
    assert np.isnan(found.b).all() and (found.a == 0).all()
    assert found.c[0] == pytest.approx(0.3)


def test_a_loss_of_zero_has_no_law():
    loss = losses(2, 0.25)[None].copy()
    loss[0, -1] = 0
    assert np.isnan(power_law.fit_line(X, loss).b[0]) and np.isnan(power_law.fit_offset(X, loss).b[0])
