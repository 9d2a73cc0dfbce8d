import jax
import numpy as np
import pytest
from small import Network, check_predictions_are_blind, create, shapes

from jaxvision import architecture as architectures


def test_ssdlite320_is_torchvisions():
    canvas = (320, 320)
    variables = shapes("ssdlite", canvas, num_classes=91)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 3_440_060
    architecture = architectures.create("ssdlite", num_classes=91)
    batch = {"image": np.zeros((1, *canvas, 3), np.uint8), "image_size": np.array([canvas], np.int32)}
    outputs = jax.eval_shape(architecture.model.apply, variables, batch)
    wanted = {"c4_expanded": (20, 672), "final": (10, 480)}
    wanted |= {f"extra{i}": shape for i, shape in enumerate([(5, 512), (3, 256), (2, 256), (1, 128)], 1)}
    assert {name: outputs[name].shape[2:] for name in wanted} == wanted
    assert outputs["logits"].shape == (1, 3234, 91) and outputs["boxes"].shape == (1, 300, 4)


def test_the_tail_is_whole_where_it_is_asked_to_be():
    params = shapes("ssdlite", (320, 320), num_classes=91, reduce_tail=False)["params"]
    assert params["trunk"]["last"]["kernel"].shape == (1, 1, 160, 960)


def test_predictions_do_not_see_the_ground_truth():
    check_predictions_are_blind(Network("ssdlite", score_threshold=0.05))


def test_options_that_do_not_fit_each_other_are_named():
    with pytest.raises(ValueError, match=r"detects on 3 maps.* got 2 ratios and 4 scales"):
        create("ssdlite", ratios=((2,), (2,)))
