"""Gaussian filtering of points in several dimensions on the permutohedral lattice.

Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010: every point gives
its value to the d + 1 corners of the simplex around it, the corners that exist are blurred along the lattice's d + 1
directions, and every point reads its corners again. Time and memory grow with points times d, at any sigma.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

CHUNK = 2**15  # vertices at once; the work ends with the chunk in which there are vertices


class Lattice(NamedTuple):
    """The simplices of N points in d dimensions, with room for C vertices: all that can be, in a static shape.

    vertices (N, d + 1) int32 in 0..C - 1, weights (N, d + 1) float32, neighbours (d + 1, 2, C) int32, C where there is
    none, and count, the number of vertices there are.
    """

    vertices: Array
    weights: Array
    neighbours: Array
    count: Array


def lattice(features: Array, valid: Array | None = None) -> Lattice:
    """The lattice for a Gaussian of deviation 1 in every dimension of features (N, d); without gradient.

    Points that are not `valid` (N,) bool have no weight and no vertex of their own. Departure from the paper: weights are
    scaled so that a point's kernel with itself is 1, as the Gaussian's is, where all vertices around it exist. What is left
    of the lattice's own unevenness is some hundredths.

    A vertex is known by two words of 32 bits, a linear hash of its coordinates; of a million vertices two are taken for one
    with a probability of some 1e-7.
    """
    features = lax.stop_gradient(features.astype(jnp.float32))
    if valid is not None:
        features = jnp.where(valid[:, None], features, features[jnp.argmax(valid)])
    coordinates, weights = _simplices(features)
    points, corners, d = coordinates.shape
    multipliers = jnp.array(np.random.RandomState(0).randint(0, 2**32, (d, 2), np.uint32) | 1)
    steps = np.full((corners, corners), -1) + np.diag([corners] * corners)  # one along each direction
    words, steps = (
        (c.astype(jnp.uint32)[..., None] * multipliers).sum(-2, dtype=jnp.uint32)
        for c in (coordinates, jnp.array(steps[:, :d]))
    )
    vertices, numbers, keys, count = _number(words.reshape(-1, 2))
    neighbours = _neighbours(numbers, keys, count, steps)
    scale = lax.rsqrt(jnp.einsum("nk,kl,nl->n", weights, _own(corners), weights, precision="highest"))
    if valid is not None:
        scale = jnp.where(valid, scale, 0)
    return Lattice(vertices.reshape(points, corners), weights * scale[:, None], neighbours, count)


def _simplices(features):
    """The first d coordinates (N, d + 1, d) int32 of the corners of each point's simplex, and weights (N, d + 1)."""
    d = features.shape[1]
    corners = d + 1
    i = np.arange(d)
    basis = np.triu(np.ones((corners, d)), 0)  # of the plane through 0 whose coordinates have sum 0
    basis[i + 1, i] = -(i + 1)
    basis *= corners * np.sqrt(2 / 3) / np.sqrt((i + 1) * (i + 2))  # with which splat, blur and slice have deviation 1
    elevated = jnp.matmul(features, jnp.array(basis.T, jnp.float32), precision="highest")

    # The nearest point whose coordinates are multiples of d + 1, put back on the plane where rounding left it.
    nearest = jnp.round(elevated / corners).astype(jnp.int32)
    rest = elevated - nearest * corners
    here, there = rest[:, :, None], rest[:, None]  # counting is quicker than many short sorts
    before = (there > here) | ((there == here) & (np.arange(corners) < np.arange(corners)[:, None]))
    rank = before.sum(2, dtype=jnp.int32) + nearest.sum(1, keepdims=True)
    over = (rank < 0).astype(jnp.int32) - (rank > d)
    nearest, rank = nearest + over, rank + over * corners
    rest = (elevated - nearest * corners) / corners

    k = np.arange(corners)[:, None]
    down = jnp.where(rank[:, None] == k, rest[:, None], 0).sum(2)  # in the order of ranks
    weights = jnp.concatenate([1 + down[:, -1:] - down[:, :1], (down[:, :-1] - down[:, 1:])[:, ::-1]], 1)
    offsets = k - corners * (rank[:, None] > d - k)
    return (nearest[:, None] * corners + offsets)[..., :d], weights


def _number(words):
    """Vertices (M,) of words (M, 2), numbered as they come, so that points side by side have vertices close in memory.

    Then, for each vertex in the order of its words, its number and words (C,), and how many vertices there are.
    """
    size = len(words)
    capacity = -(-size // min(CHUNK, size)) * min(CHUNK, size)
    *words, index = lax.sort((words[:, 0], words[:, 1], jnp.arange(size)), num_keys=2)
    new = jnp.concatenate([jnp.ones(1, bool), (words[0][1:] != words[0][:-1]) | (words[1][1:] != words[1][:-1])])
    rank = jnp.cumsum(new) - 1
    number = jnp.cumsum(jnp.zeros(size, bool).at[index].set(new, unique_indices=True)) - 1
    first = jnp.where(new, rank, capacity)
    numbers = jnp.full(capacity, capacity).at[first].set(number[index], mode="drop")
    keys = [jnp.full(capacity, 2**32 - 1, jnp.uint32).at[first].set(word, mode="drop") for word in words]
    return jnp.zeros(size, jnp.int32).at[index].set(numbers[rank], unique_indices=True), numbers, keys, rank[-1] + 1


def _neighbours(numbers, keys, count, steps):
    """Lattice.neighbours: what is one step (d + 1, 2), in words, ahead of each vertex and behind it."""
    capacity = len(numbers)
    chunk = min(CHUNK, capacity)

    def look_up(i, found):
        rows = [lax.dynamic_slice_in_dim(key, i * chunk, chunk) for key in keys]
        first, second = (row + step[:, None] for row, step in zip(rows, steps.T))
        nearest = jnp.searchsorted(keys[0], first)
        ahead = jnp.full(nearest.shape, capacity)
        for place in (nearest, nearest + 1, nearest + 2):  # a first word is hardly ever that of two vertices
            same = (keys[0].at[place].get(mode="clip") == first) & (keys[1].at[place].get(mode="clip") == second)
            ahead = jnp.where(same & (place < count), numbers.at[place].get(mode="clip"), ahead)
        return lax.dynamic_update_slice_in_dim(found, ahead, i * chunk, 1)

    found = lax.fori_loop(0, -(-count // chunk), look_up, jnp.full((len(steps), capacity), capacity))
    direction = jnp.arange(len(steps))[:, None]
    empty = jnp.full((len(steps), capacity), capacity)
    ahead = empty.at[direction, numbers].set(found, mode="drop")
    behind = empty.at[direction, found].set(numbers[None], mode="drop")
    return jnp.stack([ahead, behind], 1)


def _own(corners):
    """(d + 1, d + 1): how much of a corner's value the blur takes to each corner of the same simplex.

    From the k-th to the l-th one steps ahead along |k - l| of the directions, or behind along all others.
    """
    apart = abs(np.subtract.outer(np.arange(corners), np.arange(corners)))
    share = 0.5**corners * (0.5**apart + 0.5 ** (corners - apart))
    return jnp.array(share + np.diag(np.full(corners, 0.25**corners)), jnp.float32)


@jax.custom_vjp
def gaussian_filter(lattice: Lattice, x: Array) -> Array:
    """sum_j k(i, j) x_j, j = i among them, with k(i, j) near exp(-|f_i - f_j|^2 / 2): (N, K) float32 from x (N, K).

    Differentiable in x; the gradient is this filter with the directions in the other order. Over a batch use `lax.map`:
    under `vmap` the loop over vertices takes as long as the longest and copies its arrays.
    """
    return _filter(lattice, x.astype(jnp.float32), 1)


def _filter(lattice, x, order):
    """`gaussian_filter` with the directions in an order of 1 or -1, in the least memory that holds the vertices."""
    capacity = lattice.neighbours.shape[2]
    chunk = min(CHUNK, capacity)
    rooms = sorted({-(-capacity // share // chunk) * chunk for share in (16, 4, 1)})
    fitting = jnp.searchsorted(jnp.array(rooms), lattice.count)
    return lax.switch(fitting, [functools.partial(_filter_in, room, chunk, order) for room in rooms], lattice, x)


def _filter_in(room, chunk, order, lattice, x):
    def splat(corner, table):
        weights, vertices = (lax.dynamic_index_in_dim(a, corner, 1, False) for a in (lattice.weights, lattice.vertices))
        return table.at[vertices].add(weights[:, None] * x)

    def blur(neighbours, table, out):
        def rows(i, out):
            start = i * chunk
            ahead, behind = jnp.minimum(lax.dynamic_slice_in_dim(neighbours, start, chunk, 1), room)
            own = lax.dynamic_slice_in_dim(table, start, chunk)
            return lax.dynamic_update_slice_in_dim(out, own / 2 + (table[ahead] + table[behind]) / 4, start, 0)

        return lax.fori_loop(0, -(-lattice.count // chunk), rows, out)

    spare = jnp.zeros((room + 1, x.shape[1]))  # the last row stays 0: what is not there
    table = lax.fori_loop(0, lattice.vertices.shape[1], splat, spare)
    for neighbours in lattice.neighbours[::order]:
        table, spare = blur(neighbours, table, spare), table
    return sum(w[:, None] * table[v] for w, v in zip(lattice.weights.T, lattice.vertices.T))


def _forward(lattice, x):
    return gaussian_filter(lattice, x), (lattice, jnp.zeros(0, x.dtype))


def _backward(residuals, gradient):
    lattice, like = residuals
    return None, _filter(lattice, gradient, -1).astype(like.dtype)


gaussian_filter.defvjp(_forward, _backward)
