import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.ops import permutohedral

RNG = np.random.default_rng(0)
lattice, gaussian_filter = jax.jit(permutohedral.lattice), jax.jit(permutohedral.gaussian_filter)


def brute(features, x):
    squares = np.square(features[:, None].astype(np.float64) - features).sum(-1)
    return np.exp(-squares / 2) @ x


def picture(side=24, seed=0):
    """Features (N, 5) of a picture of a few coloured patches with noise, at eight pixels and nine grey values."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    colours = rng.uniform(0, 255, (4, 3))[2 * (y > side / 3) + (x > y)] + rng.normal(0, 6, (side, side, 3))
    return np.concatenate([y[..., None] / 8, x[..., None] / 8, colours / 9], -1).reshape(-1, 5).astype(np.float32)


def slow_filter(features, x):
    """The paper's algorithm point by point, with a dict of vertices, in float64."""
    d = features.shape[1]
    down = np.zeros((d + 1, d))
    for i in range(d):
        down[: i + 1, i], down[i + 1, i] = 1, -(i + 1)
    basis = down / np.linalg.norm(down, axis=0)
    points, table = [], {}
    for f, value in zip(features.astype(np.float64), x):
        place = basis @ f * (d + 1) * np.sqrt(2 / 3)
        # The corner of remainder 0: of all roundings up or down that lie on the plane, the nearest.
        low = np.floor(place / (d + 1)).astype(int)
        up = np.argsort(-(place / (d + 1) - low), kind="stable")[: -low.sum()]
        corner = low.copy()
        corner[up] += 1
        assert corner.sum() == 0
        rest = place - corner * (d + 1)
        order = np.argsort(-rest, kind="stable")
        corners, weights = [], []
        for k in range(d + 1):
            vertex = corner * (d + 1) + k
            vertex[order[d + 1 - k :]] -= d + 1
            corners.append(tuple(vertex))
        # Barycentric: the place is the weighted mean of the corners.
        system = np.vstack([np.array(corners).T, np.ones(d + 1)])
        weights = np.linalg.lstsq(system, np.append(place, 1), rcond=None)[0]
        assert weights.min() > -1e-9
        points.append((corners, weights))
        for vertex, weight in zip(corners, weights):
            table[vertex] = table.get(vertex, 0) + weight * value
    for j in range(d + 1):
        step = np.full(d + 1, -1)
        step[j] = d
        table = {
            v: value / 2 + sum(table.get(tuple(np.array(v) + s * step), 0) for s in (1, -1)) / 4
            for v, value in table.items()
        }
    return np.array([sum(w * table[v] for v, w in zip(corners, weights)) for corners, weights in points]), points


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_filter_is_the_papers_but_for_its_scale(d):
    features = picture(10)[:, :d] if d < 5 else picture(10)
    x = RNG.normal(size=(len(features), 3))
    corners = lattice(jnp.array(features))
    scale = corners.weights.sum(1)[:, None]  # the paper's weights have a sum of 1
    found = gaussian_filter(corners, jnp.array(x / scale, jnp.float32)) / scale
    wanted, points = slow_filter(features, x)
    np.testing.assert_allclose(found, wanted, atol=2e-5 * abs(wanted).max())
    assert corners.count == len({vertex for vertices, _ in points for vertex in vertices})


def test_it_is_near_the_gaussian():
    features = picture()
    x = RNG.uniform(size=(len(features), 4))
    corners = lattice(jnp.array(features))
    theirs, ours = (
        np.sqrt(f(np.ones((len(features), 1))))
        for f in (lambda x: brute(features, x), lambda x: gaussian_filter(corners, x))
    )
    assert abs(ours / theirs - 1).mean() < 0.06
    wanted = brute(features, x / theirs) / theirs
    found = np.array(gaussian_filter(corners, jnp.array(x / ours))) / ours
    assert np.linalg.norm(found - wanted) < 0.04 * np.linalg.norm(wanted)


def test_a_point_alone_weighs_one_and_points_far_apart_nothing():
    dense = RNG.uniform(0, 3, (40000, 2)).astype(np.float32)  # every vertex around the middle exists
    corners = lattice(jnp.array(np.concatenate([dense, [[1.5, 1.4]]]).astype(np.float32)))
    one = jnp.zeros((40001, 1)).at[-1].set(1)
    np.testing.assert_allclose(gaussian_filter(corners, one)[-1], 1, atol=1e-5)
    far = lattice(jnp.array([[0.0] * 5, [100.0] * 5]))
    found = gaussian_filter(far, jnp.eye(2))
    assert found[0, 1] == found[1, 0] == 0 and (jnp.diag(found) > 0.7).all() and (jnp.diag(found) <= 1.0001).all()


def test_points_that_are_not_valid_change_nothing():
    features, rng = picture(12), np.random.default_rng(1)
    x = rng.normal(size=(len(features), 2)).astype(np.float32)
    valid = rng.uniform(size=len(features)) < 0.7
    some = lattice(jnp.array(features[valid]))
    masked = lattice(jnp.array(features), jnp.array(valid))
    found = gaussian_filter(masked, jnp.array(x))
    np.testing.assert_allclose(found[valid], gaussian_filter(some, jnp.array(x[valid])), atol=1e-4)
    assert masked.count == some.count and (found[~valid] == 0).all()


def test_the_gradient_is_the_adjoint():
    features = picture(16)
    corners = lattice(jnp.array(features))
    x, y = (jnp.array(RNG.normal(size=(len(features), 2)), jnp.float32) for _ in range(2))
    out, back = jax.vjp(lambda x: gaussian_filter(corners, x), x)
    np.testing.assert_allclose(jnp.vdot(y, out), jnp.vdot(back(y)[0], x), rtol=1e-4)
    matrix = gaussian_filter(corners, jnp.eye(len(features)))
    np.testing.assert_allclose(back(y)[0], matrix.T @ y, atol=1e-3)


@pytest.mark.parametrize("chunk", [16, 64, 4096])
def test_chunks_and_rooms_are_no_matter(monkeypatch, chunk):
    features = jnp.array(picture(16))
    x = jnp.array(RNG.normal(size=(len(features), 2)), jnp.float32)
    wanted = gaussian_filter(lattice(features), x)
    monkeypatch.setattr(permutohedral, "CHUNK", chunk)

    @jax.jit
    def both(features, x):
        corners = permutohedral.lattice(features)
        return corners, permutohedral.gaussian_filter(corners, x)

    for f in (features, features * 0.1, features * 10):  # the vertices fit into rooms of different size
        corners, found = both(f, x)
        if f is features:
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert corners.count > corners.neighbours.shape[2] / 4


def test_a_batch_by_map_is_each_alone():
    features = jnp.array([picture(10, seed) for seed in range(3)])
    x = jnp.array(RNG.normal(size=(3, 100, 2)), jnp.float32)
    both = jax.jit(lambda f, x: jax.lax.map(lambda fx: gaussian_filter(lattice(fx[0]), fx[1]), (f, x)))(features, x)
    for i in range(3):
        np.testing.assert_allclose(both[i], gaussian_filter(lattice(features[i]), x[i]), atol=1e-5)
    mapped = jax.vmap(lambda f, x: gaussian_filter(lattice(f), x))(features, x)
    np.testing.assert_allclose(mapped, both, atol=1e-5)
