"""What a segmenter learns from seeds (Kolesnikov & Lampert, "Seed, Expand and Constrain", ECCV 2016)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.batch import real_rows
from jaxvision.losses import sec
from jaxvision.models.segmentation.segmenter import covered_cells
from jaxvision.ops.crf import choose, mean_field
from jaxvision.ops.images import colours
from jaxvision.ops.resize import resize


def sec_losses(
    logits: jax.Array,
    batch: Mapping[str, jax.Array],
    cells: int | tuple[int, int] = 41,
    foreground: float = 0.996,
    background: float = 0.999,
    absent: float = 0.0,
    crf: str | Mapping[str, Any] = "sec",
    method: str = "fast",
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """{"seed", "expand", "constrain"} of logits (B,H,W,K), class 0 the background; see `jaxvision.losses.sec`.

    The batch's `semantic` has the seeds, 255 where nothing is known. An image has the classes of which it has a seed: crops
    that lose an object lose its class.

    cells: of the map, (height, width) or one side, on which all is computed: logits and image are brought to it smoothly,
    seeds are those at the cells' centres. foreground, background, absent: decays of the ranks; those of the paper, for 41 x 41
    cells. crf, method: see `jaxvision.ops.crf`; its deviations are in pixels of the canvas.
    """
    cells, canvas = tuple(int(n) for n in np.broadcast_to(cells, 2)), logits.shape[1:3]
    real, covered = real_rows(batch), covered_cells(batch["image_size"], canvas, cells)
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(cells, canvas))
    seeds = batch["semantic"][:, rows[:, None], columns]
    present = (seeds[..., None] == jnp.arange(logits.shape[-1])).any((1, 2))
    scores, image = (resize(x, cells, antialias=True) for x in (logits, colours(batch["image"])))
    settings, shrink = choose(crf), cells[0] / canvas[0]
    settings = dataclasses.replace(
        settings, bilateral_xy=settings.bilateral_xy * shrink, gaussian_xy=settings.gaussian_xy * shrink
    )
    refined = jax.lax.map(
        lambda example: mean_field(example[0], example[1], settings, example[2], method),
        (jax.lax.stop_gradient(scores), image, covered),
    )
    return {
        "seed": sec.seed(scores, jnp.where(covered, seeds, 255), real),
        "expand": sec.expand(scores, present, real, covered, foreground, background, absent),
        "constrain": sec.constrain(scores, refined, real, covered),
    }
