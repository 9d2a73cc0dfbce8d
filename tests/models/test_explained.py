"""Every architecture can be explained: by Grad-CAM at a map and by guided backpropagation, for a target of its kind."""

import jax
import pytest
from small import SIDE, batch_of, create, example

from jaxvision import architecture as architectures
from jaxvision.explain.endpoints import outline, prepared
from jaxvision.explain.grad_cam import grad_cam
from jaxvision.explain.saliency import saliency
from jaxvision.explain.targets import ClassScore, DetectionScore, JointScore, RegionScore


def targets_of(outputs):
    if "score_logits" in outputs:
        return [DetectionScore(0), JointScore(2, 1) if "keypoint_heatmaps" in outputs else DetectionScore(1)]
    if "joints" in outputs:
        return [JointScore(0, axis="x"), JointScore(1, axis="y")]
    kind = RegionScore if outputs["logits"].ndim == 4 else ClassScore
    return [kind(0), kind(2)]


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_can_be(name):
    """As shapes: nothing is compiled."""
    architecture = create(name)
    batch = batch_of([example(0), example(4)], architecture.task)
    variables = jax.eval_shape(architecture.init, jax.random.key(0), batch)
    offer = outline(*prepared(architecture, variables, batch))
    targets = targets_of(offer.outputs)
    layer = max(name for name, value in offer.outputs.items() if name[:1] == "c" and name[1:].isdigit())

    def explain(variables):
        maps = grad_cam(architecture, variables, batch, layer, targets)
        return maps, saliency(architecture, variables, batch, targets, "guided")

    maps, signals = jax.eval_shape(explain, variables)
    rows, *cells, _ = offer.outputs[layer].shape
    assert maps.shape == (rows, 2, *cells) and rows % 2 == 0
    assert signals.shape == (2, 2, SIDE, SIDE, 3)
