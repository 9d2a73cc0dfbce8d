import re

import jax
import numpy as np
import pytest
from small import Network, check_predictions_are_blind, create, shapes

from jaxvision import architecture as architectures
from jaxvision.models.detection.yolo import predict
from jaxvision.ops.boxes import iou
from jaxvision.train.optimizer import path_name


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def layers(inputs, convolutions, flat, connected):
    """Weights and biases of (kernel, channels) convolutions and of connected layers, one after the other."""
    count = 0
    for kernel, channels in convolutions:
        count, inputs = count + (kernel * kernel * inputs + 1) * channels, channels
    for inputs, outputs in zip((flat, *connected), connected):
        count += (inputs + 1) * outputs
    return count


CONVOLUTIONS = [(7, 64), (3, 192), (1, 128), (3, 256), (1, 256), (3, 512)]
CONVOLUTIONS += [(1, 256), (3, 512)] * 4 + [(1, 512), (3, 1024)] + [(1, 512), (3, 1024)] * 2 + [(3, 1024)] * 4


def test_yolo_is_the_papers():
    """Figure 3: 24 convolutions and two connected layers to 7 x 7 x 30."""
    assert len(CONVOLUTIONS) == 24
    params = shapes("yolo", (448, 448), num_classes=21)["params"]
    assert size(params) == layers(3, CONVOLUTIONS, 7 * 7 * 1024, (4096, 1470)) == 271_703_550
    assert params["output"]["kernel"].shape == (4096, 7 * 7 * (2 * 5 + 20))


def test_fast_yolo_is_darknets():
    """Nine convolutions; Darknet's file has 256, 4096 and 1470 connected outputs behind them."""
    convolutions = [(3, width) for width in (16, 32, 64, 128, 256, 512, 1024, 1024, 1024)]
    params = shapes("yolo", (448, 448), num_classes=21, form="fast_yolo")["params"]
    assert size(params) == layers(3, convolutions, 7 * 7 * 1024, (256, 4096, 1470)) == 45_089_374


def test_the_first_twenty_convolutions_are_those_of_a_classifier():
    pattern = r"^trunk/stage([1-4]_|5_conv[0-3])"
    params = shapes("darknet", (224, 224), num_classes=1000)["params"]
    assert size(params) == layers(3, CONVOLUTIONS[:20], 1024, (1000,))
    yolo = shapes("yolo", (448, 448), num_classes=21)["params"]
    kernels = [{path_name(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(p)} for p in (params, yolo)]
    taken = {path: shape for path, shape in kernels[1].items() if re.search(pattern, path)}
    assert len(taken) == 2 * 20 and taken == {path: s for path, s in kernels[0].items() if "trunk" in path}


def test_maps_end_at_seven_by_seven():
    for form, sides in (("yolo", (112, 56, 28, 14, 7, 7)), ("fast_yolo", (224, 112, 56, 28, 14, 7, 7))):
        architecture = architectures.create("yolo", num_classes=21, form=form)
        params = shapes("yolo", (448, 448), num_classes=21, form=form)
        batch = {"image": np.zeros((1, 448, 448, 3), np.uint8), "image_size": np.array([[448, 448]], np.int32)}
        outputs = jax.eval_shape(architecture.model.apply, params, batch)
        assert tuple(outputs[f"c{i}"].shape[1] for i in range(1, len(sides) + 1)) == sides
        assert outputs["logits"].shape == (1, 7, 7, 20) and outputs["coordinates"].shape == (1, 7, 7, 2, 4)


@pytest.fixture(scope="module")
def network():
    return Network("yolo", score_threshold=1e-6)


def test_predictions_do_not_see_the_ground_truth(network):
    check_predictions_are_blind(network)


def test_the_outputs_are_in_darknets_order(network):
    """All classes, all confidences, all boxes: the biases of the last layer are told apart."""
    params = jax.tree.map(np.array, network.variables["params"])
    params["output"] = {"kernel": 0 * params["output"]["kernel"], "bias": np.arange(16 * 13, dtype=np.float32)}
    outputs, _, _ = network.forward({**network.variables, "params": params}, network.batch(network.pictures))
    cell = 4 * 2 + 3
    np.testing.assert_array_equal(outputs["logits"][0, 2, 3], cell * 3 + np.arange(3))
    np.testing.assert_array_equal(outputs["confidences"][1, 2, 3], 48 + cell * 2 + np.arange(2))
    np.testing.assert_array_equal(outputs["coordinates"][0, 2, 3, 1], 48 + 32 + (cell * 2 + 1) * 4 + np.arange(4))


def test_predictions_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    coordinates = rng.uniform(0, 1, (1, 3, 3, 2, 4)).astype(np.float32)
    confidences, logits = (rng.uniform(-0.3, 1, (1, 3, 3, n)).astype(np.float32) for n in (2, 3))
    outputs = {"coordinates": coordinates, "confidences": confidences, "logits": logits}
    batch = {"image": np.zeros((1, 90, 120, 3), np.uint8), "image_size": np.array([[90, 110]], np.int32)}
    options = dict(score_threshold=0.05, nms_threshold=0.4, candidates=40, detections=20)
    found = jax.jit(lambda o, b: predict(o, b, **options))(outputs, batch)
    kept = []
    for kind in range(3):
        rows = []
        for i, j, n in np.ndindex(3, 3, 2):
            x, y, root_w, root_h = coordinates[0, i, j, n]
            x, y, w, h = (j + x) / 3 * 120, (i + y) / 3 * 90, root_w**2 * 120, root_h**2 * 90
            box = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, [110, 90, 110, 90]).astype(np.float32)
            if min(confidences[0, i, j, n], logits[0, i, j, kind]) > 0:
                rows.append((confidences[0, i, j, n] * logits[0, i, j, kind], kind + 1, box))
        own = []
        for row in sorted(rows, key=lambda row: -row[0]):
            if row[0] > 0.05 and all(iou(row[2][None], other[2][None])[0, 0] <= 0.4 for other in own):
                own.append(row)
        kept += own
    kept = sorted(kept, key=lambda row: -row[0])[:20]
    count = int(found["valid"].sum())
    assert 5 < count == len(kept) and found["overflow"][0] == 0
    np.testing.assert_allclose(found["scores"][0][:count], [row[0] for row in kept], rtol=1e-5)
    np.testing.assert_array_equal(found["classes"][0][:count], [row[1] for row in kept])
    np.testing.assert_allclose(found["boxes"][0][:count], [row[2] for row in kept], atol=1e-4)


def test_without_connected_layers_the_last_map_is_the_grid():
    params = shapes("yolo", (96, 64), num_classes=4, stages=(((8, 3, 1),),) * 4, pools=4, grid=None)["params"]
    assert params["output"]["kernel"].shape == (1, 1, 8, 3 + 2 * 5)
    architecture = create("yolo", stages=(((8, 3, 1),),) * 4, pools=4, grid=None, norm="none")
    batch = {"image": np.zeros((1, 96, 64, 3), np.uint8), "image_size": np.array([[96, 64]], np.int32)}
    outputs = jax.eval_shape(architecture.model.apply, {"params": params}, batch)
    assert outputs["logits"].shape == (1, 6, 4, 3) and outputs["coordinates"].shape == (1, 6, 4, 2, 4)


def test_options_that_cannot_be_meant():
    with pytest.raises(ValueError, match=r"form 'tiny' is not one of yolo, fast_yolo"):
        create("yolo", form="tiny")
    with pytest.raises(ValueError, match="at least 2, got 1"):
        architectures.create("yolo", num_classes=1)
