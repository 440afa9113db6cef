import jax.numpy as jnp
import numpy as np

from dreamworld.envs.jax import draw


def test_a_box_covers_exactly_its_area():
    coverage = np.asarray(draw.box(10, 0.12, 0.3, 0.57, 0.95))
    assert np.isclose(coverage.sum() / 100, 0.45 * 0.65, atol=1e-6)
    assert np.isclose(coverage[4, 1], 0.8)
    assert np.isclose(coverage[9, 5], 0.7 * 0.5)
    assert coverage[4, 3] == 1
    assert coverage[2, 3] == coverage[4, 6] == 0


def test_x_goes_right_and_y_goes_down():
    row, col = np.unravel_index(np.asarray(draw.disc(20, jnp.array([0.8, 0.2]), 0.1)).argmax(), (20, 20))
    assert row < 5
    assert col > 14


def test_a_line_has_its_width_and_ends():
    coverage = np.asarray(draw.line(50, jnp.array([0.2, 0.5]), jnp.array([0.8, 0.5]), 0.1))
    assert np.isclose(coverage[:, 25].sum(), 5, atol=1e-4)
    assert coverage[:, 6].sum() == 0
    assert coverage[:, 43].sum() == 0
    point = np.asarray(draw.line(50, jnp.array([0.5, 0.5]), jnp.array([0.5, 0.5]), 0.1))
    np.testing.assert_allclose(point, draw.disc(50, jnp.array([0.5, 0.5]), 0.05), atol=1e-4)


def test_paint_blends_by_coverage():
    picture = draw.paint(
        draw.canvas(2, (0.5, 0.5, 0.5)), jnp.array([[0.0, 1.0], [0.5, 0.25]]), (1.0, 0.0, 0.5)
    )
    np.testing.assert_allclose(picture[0, 0], [0.5, 0.5, 0.5])
    np.testing.assert_allclose(picture[0, 1], [1.0, 0.0, 0.5])
    np.testing.assert_allclose(picture[1, 0], [0.75, 0.25, 0.5])
    assert draw.to_uint8(picture)[1, 1].tolist() == [159, 96, 128]


def test_grid_centres_whole_cells_on_a_margin():
    cells = jnp.arange(6, dtype=jnp.uint8).reshape(2, 3, 1)
    picture = np.asarray(draw.grid(cells, 16, margin=9))[:, :, 0]
    assert (picture[:, 15] == 9).all()
    assert (picture[:8, 5:10] == 1).all()
    assert (picture[8:, 10:15] == 5).all()
