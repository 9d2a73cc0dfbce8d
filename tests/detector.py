"""The least detector there is: cells of 16 x 16 pixels are the boxes, and each has a class."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.architecture import Architecture
from jaxvision.ops.images import normalize

CELL = 16


class Detector(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, batch, train=False):
        x = normalize(batch["image"], batch["image_size"], (0.5,) * 3, (0.5,) * 3)
        count, height, width, _ = x.shape
        rows, columns = height // CELL, width // CELL
        cells = x.reshape(count, rows, CELL, columns, CELL, 3).swapaxes(2, 3).reshape(count, rows * columns, -1)
        y, x = jnp.divmod(jnp.arange(rows * columns), columns)
        boxes = jnp.stack([x, y, x + 1, y + 1], axis=1).astype(jnp.float32) * CELL
        return {"logits": nn.Dense(self.num_classes, name="score")(cells), "cells": jnp.tile(boxes, (count, 1, 1))}


def losses(outputs, batch):
    """A cell is of the first object that its centre lies in."""
    centres = (outputs["cells"][..., None, :2] + outputs["cells"][..., None, 2:]) / 2
    boxes = batch["boxes"][:, None]
    inside = ((centres > boxes[..., :2]) & (centres < boxes[..., 2:])).all(-1) & batch["valid"][:, None]
    classes = jnp.take_along_axis(batch["classes"][:, None], inside.argmax(-1)[..., None], axis=-1)[..., 0]
    target = jnp.where(inside.any(-1), classes, 0)
    terms = -jnp.take_along_axis(jax.nn.log_softmax(outputs["logits"]), target[..., None], axis=-1)
    return {"class": (terms.sum(), jnp.float32(terms.size))}


def predict(outputs, batch):
    scores = jax.nn.softmax(outputs["logits"])[..., 1:]
    order = jnp.argsort(-scores.max(-1), axis=1)
    found = {"boxes": outputs["cells"], "classes": scores.argmax(-1) + 1, "scores": scores.max(-1)}
    found = {name: jax.vmap(lambda rows, best: rows[best])(value, order) for name, value in found.items()}
    return found | {"valid": jnp.ones(scores.shape[:2], bool)}


def detector(num_classes: int) -> Architecture:
    return Architecture("detector", Detector(num_classes), losses, predict, "detection")
