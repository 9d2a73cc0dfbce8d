import jax
import numpy as np
import pytest
from small import SIDE, Network, check_predictions_are_blind, create, example

from jaxvision import architecture as architectures
from jaxvision.ops.images import normalize
from jaxvision.ops.resize import resize


@pytest.fixture(scope="module")
def network():
    return Network("sppnet")


def test_predictions_see_no_ground_truth(network):
    check_predictions_are_blind(network)


def slow_pooled(features, box, geometry, levels):
    """Of a map (h,w,C): the cells whose centres lie in the box, in bins of floor and ceil."""
    places = []
    for low, high, extent in ((box[1], box[3], features.shape[0]), (box[0], box[2], features.shape[1])):
        cells = [i for i in range(extent) if low < geometry.stride * i + geometry.start + 0.5 < high]
        if not cells:
            middle = ((low + high) / 2 - geometry.start - 0.5) / geometry.stride
            cells = [int(np.clip(np.floor(middle + 0.5), 0, extent - 1))]
        places.append(cells)
    part = features[np.ix_(*places)]
    height, width = part.shape[:2]
    bins = []
    for n in levels:
        for i in range(n):
            for j in range(n):
                rows = slice(i * height // n, -(-(i + 1) * height // n))
                bins.append(part[rows, j * width // n : -(-(j + 1) * width // n)].max((0, 1)))
    return np.concatenate(bins)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)])
def test_windows_are_pooled_from_their_own_scale(network, scales):
    """Each from the scale at which its area is nearest to 20 x 20 pixels, by a slow loop over the trunk's map there."""
    architecture = create("sppnet", scales=scales, window=20)
    batch = {k: v for k, v in network.batch([example(1)]).items() if k in ("image", "image_size")}
    regions = np.array([[[0, 0, 12, 9], [4, 8, 26, 30], [5, 3, 60, 50], [0, 0, 64, 64], [30, 30, 31, 32]]], np.float32)
    pooled, _ = jax.jit(lambda v, b, r: architecture.model.apply(v, b, r, method="features"))(
        network.variables, batch, regions
    )
    image = normalize(batch["image"], batch["image_size"], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    trunk = architecture.model.trunk
    seen = []
    for scale in scales:
        side = round(SIDE * scale)
        maps = jax.jit(trunk.apply)({"params": network.variables["params"]["trunk"]}, resize(image, (side, side)))
        seen.append(np.array(maps["c3"][0]))
    chosen = set()
    for row, box in zip(np.array(pooled[0]), regions[0]):
        area = (box[2] - box[0]) * (box[3] - box[1])
        best = min(range(len(scales)), key=lambda k: abs(area * scales[k] ** 2 - 400))
        chosen.add(best)
        expected = slow_pooled(seen[best], box * scales[best], trunk.geometry()["c3"], (1, 2))
        np.testing.assert_allclose(row, expected, atol=1e-4)
    assert len(chosen) == len(scales)


def test_training_leaves_the_convolutions_unless_told(network):
    batch = network.batch([example(1), example(2)])

    def gradient(architecture):
        def loss(params):
            rngs = {"dropout": jax.random.key(0), "sampler": jax.random.key(1)}
            outputs = architecture.model.apply({"params": params}, batch, train=True, rngs=rngs)
            return architecture.losses(outputs, batch)["roi_class"][0]

        return jax.jit(jax.grad(loss))(network.variables["params"])

    still, tuned = gradient(create("sppnet", tune_trunk=False)), gradient(network.architecture)
    assert all(not leaf.any() for leaf in jax.tree.leaves(still["trunk"]))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(tuned["trunk"]))
    assert np.abs(still["fc6"]["kernel"]).max() > 0


def test_background_overlaps_an_object_somewhat():
    """The paper's negatives: an IoU of 0.1 to 0.5."""
    network = Network("sppnet", least_overlap=0.1, samples=12)
    picture = example(2)
    x1, y1, x2, y2 = picture["boxes"][0]
    width = x2 - x1
    near, far = [x1 + 0.6 * width, y1, x2 + 0.6 * width, y2], [0.0, 0.0, 3.0, 3.0]
    picture["proposals"] = np.clip(np.array([near, far], np.float32), 0, SIDE)
    outputs, _, _ = network.forward(network.variables, network.batch([picture, picture]))
    negatives = np.array(outputs["rois"][0])[np.array(outputs["rois_valid"][0] & (outputs["roi_classes"][0] == 0))]
    np.testing.assert_allclose(negatives, picture["proposals"][:1], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(levels=()), "levels and scales are positive"),
        (dict(scales=(0.0,)), "levels and scales are positive"),
        (dict(level="c9"), "'zf5' has no map 'c9'; it has c1, c2"),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("sppnet", num_classes=4, **options)
