"""The dense conditional random field (Kraehenbuehl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian
Edge Potentials", NIPS 2011), by mean field.

The energy of labels l is

    sum_i -logits[i, l_i] + sum_{i < j} mu(l_i, l_j) (w_b exp(-|p_i - p_j|^2 / 2 s_xy^2 - |c_i - c_j|^2 / 2 s_rgb^2)
                                                      + w_g exp(-|p_i - p_j|^2 / 2 s_g^2))

with places p in pixels and colours c in 0..255. Departure: as in Kraehenbuehl's code and pydensecrf, each kernel is
normalised, k(i, j) / sqrt(D_i D_j) with D_i = sum_j k(i, j), j = i among them; weights are not those of the paper's formula.

No pixel sends itself a message, as the energy has it. The lattices of Kraehenbuehl's code, pydensecrf and CRF-RNN leave
the term j = i in; `Settings.self_term` does too.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.ops.permutohedral import gaussian_filter, lattice

METHODS = ("fast", "exact")
Filter = Callable[[Array], Array]  # (N, K) -> (N, K): sum_j k(i, j) x_j, j = i among them


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a dense CRF is made of; the defaults are pydensecrf's example, by ten iterations.

    Weights are scalars, one for each class (K,), or (K, K), that of messages about the second class to the first; then
    compatibility (K, K) mixes the classes: [l, m] is the cost of l beside m, and None is Potts' 1 - identity. They may be
    traced, to be learned. For the energy above compatibility is symmetric.

    normalization: "symmetric", or "none", the paper's formula. Raises ValueError for another one, a deviation that is not
    positive and iterations below 0.
    """

    bilateral_weight: Any = 10.0
    bilateral_xy: float = 80.0  # pixels
    bilateral_rgb: float = 13.0  # of 0..255
    gaussian_weight: Any = 3.0
    gaussian_xy: float = 3.0
    iterations: int = 10
    compatibility: Any = None
    normalization: str = "symmetric"
    self_term: bool = False

    def __post_init__(self):
        for name in ("bilateral_xy", "bilateral_rgb", "gaussian_xy"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a deviation is positive")
        if self.iterations < 0:
            raise ValueError(f"iterations is {self.iterations}; it is at least 0")
        if self.normalization not in ("symmetric", "none"):
            raise ValueError(f'normalization is {self.normalization!r}; "symmetric" and "none" exist')


PRESETS = {
    "pydensecrf": Settings(),  # the example of its README
    "deconvnet": Settings(5.0, 20.0, 3.0, 3.0, 3.0),  # github.com/HyeonwooNoh/DeconvNet
    "crf_rnn": Settings(5.0, 160.0, 3.0, 3.0, 3.0),  # github.com/torrvision/crfasrnn
    "sec": Settings(10.0, 80.0, 13.0, 3.0, 3.0),  # github.com/kolesman/SEC; as pydensecrf's
    "deeplab_vgg": Settings(4.0, 65.0, 3.0, 2.0, 2.0),  # Chen et al., TPAMI 2017
    "deeplab_resnet101": Settings(4.0, 67.0, 3.0, 3.0, 1.0),  # the same
}


def choose(settings: str | Mapping[str, Any]) -> Settings:
    """The preset of that name, or `Settings` of these fields; with `preset` among them, that one's with these changed.

    Raises ValueError for an unknown preset or field.
    """
    changes = {"preset": settings} if isinstance(settings, str) else dict(settings)
    preset = changes.pop("preset", "pydensecrf")
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r} of a CRF; there are {', '.join(PRESETS)}.")
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in changes:
        if name not in known:
            raise ValueError(f"A CRF has no setting {name!r}; there are preset, {', '.join(known)}.")
    return dataclasses.replace(PRESETS[preset], **changes)


def mean_field(
    logits: Array,
    image: Array,
    settings: Settings = PRESETS["pydensecrf"],
    valid: Array | None = None,
    method: str = "fast",
    block_bytes: int = 2**27,
) -> Array:
    """Logits (H, W, K), float32, refined by `settings.iterations` of mean field; their softmax is Q.

    logits: log-probabilities, up to a constant at each pixel. image (H, W, 3): RGB in 0..255 of any dtype. valid (H, W)
    bool: pixels that take part; those of the others stay as they are. Differentiable in the logits, weights and
    compatibility, not in the image. One image: over a batch use `lax.map`.

    method: "exact" adds up all pairs, N^2 in time, in blocks of rows of at most `block_bytes` (but at least one row).
    "fast" filters with colours on the permutohedral lattice (`jaxvision.ops.permutohedral`) and without them by separable
    sums cut at five deviations, N in time; docs/crf.md says how near it comes.

    Raises ValueError for another method and for shapes that do not belong together.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; {' and '.join(map(repr, METHODS))} exist")
    height, width, classes = logits.shape
    if image.shape != (height, width, 3) or (valid is not None and valid.shape != (height, width)):
        found = f"{image.shape}" + ("" if valid is None else f" and valid {valid.shape}")
        raise ValueError(f"logits {logits.shape} go with an image {(height, width, 3)}, not {found}")
    weights = [jnp.asarray(w, jnp.float32) for w in (settings.bilateral_weight, settings.gaussian_weight)]
    mu = 1 - jnp.eye(classes) if settings.compatibility is None else jnp.asarray(settings.compatibility, jnp.float32)
    for name, array, shapes in (
        *zip(("bilateral_weight", "gaussian_weight"), weights, [((), (classes,), (classes, classes))] * 2),
        ("compatibility", mu, ((classes, classes),)),
    ):
        if array.shape not in shapes:
            raise ValueError(f"{name} is of shape {array.shape}; for {classes} classes: {', '.join(map(str, shapes))}")

    unary = logits.reshape(-1, classes).astype(jnp.float32)
    present = jnp.ones(len(unary), bool) if valid is None else valid.ravel()
    filters = _filters(image, settings, present, method, block_bytes)
    messages = [_normalized(filter, present, settings) for filter in filters]

    @functools.partial(jax.checkpoint, prevent_cse=False)  # else every iteration keeps what its kernels computed
    def iterate(refined, _):
        q = jnp.where(present[:, None], jax.nn.softmax(refined), 0)
        total = sum(_mix(w, message(q)) for w, message in zip(weights, messages))
        return unary - _mix(mu, total), None

    refined, _ = lax.scan(iterate, unary, length=settings.iterations)
    return refined.reshape(logits.shape)


def refine(
    probabilities: np.ndarray,
    image: np.ndarray,
    settings: Settings = PRESETS["pydensecrf"],
    method: str = "fast",
    floor: float = 1e-5,
) -> np.ndarray:
    """Probabilities (H, W, K) of classes at each pixel of an image (H, W, 3) uint8 RGB, refined; float32, on the host.

    floor: what a probability counts at least, as its logarithm is taken. Compiles once for a size and settings. Raises
    ValueError for an image of another size or kind, and for values that are no probabilities.
    """
    probabilities, image = np.asarray(probabilities, np.float32), np.asarray(image)
    if image.dtype != np.uint8 or image.shape != (*probabilities.shape[:2], 3) or probabilities.ndim != 3:
        raise ValueError(
            f"probabilities {probabilities.shape} go with a uint8 image (H, W, 3) of that size, got {image.shape} {image.dtype}"
        )
    wrong = ~((probabilities >= 0).all(-1) & (abs(probabilities.sum(-1) - 1) < 1e-2))
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise ValueError(
            f"At {wrong.sum()} pixels there are no probabilities, which are 0 or more and add up to 1; first at row {y}, "
            f"column {x}: {probabilities[y, x]}. Of logits take the softmax."
        )
    traced = {name: getattr(settings, name) for name in ("bilateral_weight", "gaussian_weight", "compatibility")}
    fixed = dataclasses.replace(settings, **dict.fromkeys(traced))
    return np.asarray(_refine(probabilities, image, traced, floor, fixed, method))


@functools.partial(jax.jit, static_argnames=("fixed", "method"))
def _refine(probabilities, image, traced, floor, fixed, method):
    logits = jnp.log(jnp.maximum(probabilities, floor))
    return jax.nn.softmax(mean_field(logits, image, dataclasses.replace(fixed, **traced), method=method))


def _mix(weights, x):
    """x (N, K) by weights of shape (), (K,) or (K, K)."""
    return jnp.matmul(x, weights.T, precision="highest") if weights.ndim == 2 else x * weights


def _filters(image, settings, present, method, block_bytes) -> tuple[Filter, Filter]:
    """Those of the bilateral kernel and of the one without colours."""
    size = image.shape[:2]
    places = jnp.stack(jnp.meshgrid(*map(jnp.arange, size), indexing="ij"), -1).reshape(-1, 2).astype(jnp.float32)
    colours = lax.stop_gradient(image.reshape(-1, 3).astype(jnp.float32))
    with_colours = jnp.concatenate([places / settings.bilateral_xy, colours / settings.bilateral_rgb], 1)
    sigma = settings.gaussian_xy
    if method == "exact":
        return tuple(
            functools.partial(exact_filter, f, block_bytes=block_bytes) for f in (with_colours, places / sigma)
        )
    corners = lattice(with_colours, present)
    return functools.partial(gaussian_filter, corners), lambda x: gaussian_blur(x.reshape(*size, -1), sigma).reshape(
        x.shape
    )


def _normalized(filter: Filter, present: Array, settings: Settings) -> Filter:
    """Messages of a kernel from pixels that are present to pixels that are."""
    total = filter(present[:, None].astype(jnp.float32))[:, 0]
    scale = jnp.where(present, lax.rsqrt(total) if settings.normalization == "symmetric" else 1, 0)[:, None]
    # A pixel's kernel with itself is 1. The lattice may have a little less, which shows where nothing else is near.
    own = 0 if settings.self_term else jnp.minimum(total, 1)[:, None] * scale**2
    return lambda q: scale * filter(scale * q) - own * q


def exact_filter(features: Array, x: Array, block_bytes: int = 2**27) -> Array:
    """sum_j exp(-|f_i - f_j|^2 / 2) x_j, (N, K), of x (N, K) and features (N, d), over all pairs.

    Rows of the kernel are computed in blocks of at most `block_bytes` and forgotten; the gradient, in x and in the
    features, computes them again.
    """
    count = len(features)
    rows = max(1, min(count, block_bytes // (4 * count)))
    blocks = jnp.pad(features, ((0, -count % rows), (0, 0))).reshape(-1, rows, features.shape[1])

    @jax.checkpoint
    def block(of):
        # differences and not |a|^2 + |b|^2 - 2ab, which cancel
        squares = sum(jnp.square(a[:, None] - b) for a, b in zip(of.T, features.T))
        return jnp.matmul(jnp.exp(-squares / 2), x, precision="highest")

    return lax.map(block, blocks).reshape(-1, x.shape[1])[:count]


def gaussian_blur(x: Array, sigma: float) -> Array:
    """sum_q exp(-|p - q|^2 / 2 sigma^2) x_q of a map (H, W, K), for q within five deviations along each axis."""
    for axis in (0, 1):
        extent = x.shape[axis]
        reach = min(math.ceil(5 * sigma), extent - 1)
        if reach <= 25:  # weighted slices, in one pass over memory
            pads = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
            padded = jnp.pad(x, pads)
            taps = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma)).tolist()
            x = sum(tap * lax.slice_in_dim(padded, i, i + extent, axis=axis) for i, tap in enumerate(taps))
        else:
            matrix = np.exp(-0.5 * np.square(np.subtract.outer(np.arange(extent), np.arange(extent)) / sigma))
            x = jnp.moveaxis(jnp.tensordot(matrix.astype(np.float32), x, (1, axis), precision="highest"), 0, axis)
    return x
