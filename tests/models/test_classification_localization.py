import jax
import numpy as np
import pytest
from runs import lines
from small import BACKBONES, SMALL, Network, create, example, shapes
from tiny import tiny_config

from jaxvision import architecture as architectures
from jaxvision.batch import blank
from jaxvision.models.backbones.trunk import classifier_trunk
from jaxvision.models.single_object.classification_localization import CODINGS, losses, predict
from jaxvision.models.single_object.features import regression_loss
from jaxvision.train.init import load_variables
from jaxvision.train.stages import run

FIELDS = ("label", "boxes", "classes", "valid")


def problem(boxes=3, scale=1.0, seed=0):
    """Outputs of 3 images of 3 classes, and what is true: two objects of the label, one, and none to learn from."""
    rng = np.random.default_rng(seed)
    outputs = {
        "logits": rng.normal(0, 1, (3, 3)).astype(np.float32),
        "box_numbers": rng.uniform(0.1, 0.9, (3, boxes, 4)).astype(np.float32),
    }
    low = rng.uniform(0, 40, (3, 3, 2))
    batch = {
        "image": np.zeros((3, int(60 * scale), int(80 * scale), 3), np.uint8),
        "image_size": np.array([[60, 80], [60, 80], [50, 60]], np.int32),
        "label": np.array([2, 0, 1]),
        "boxes": np.concatenate([low, low + rng.uniform(5, 20, (3, 3, 2))], -1).astype(np.float32) * np.float32(scale),
        "classes": np.array([[3, 1, 3], [2, 1, 3], [2, 2, 1]], np.int32),
        "valid": np.array([[True, True, True], [True, True, False], [False, False, True]]),
    }
    return outputs, batch


def numbers_of(box, coding, height, width):
    x1, y1, x2, y2 = box / np.array([width, height, width, height])
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1] if coding == "centre" else [x1, y1, x2, y2]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("boxes", [3, 1])
@pytest.mark.parametrize("loss", ["l2", "l1", "smooth_l1"])
def test_losses_computed_by_hand(coding, boxes, loss):
    outputs, batch = problem(boxes)
    batch["real"] = np.array([True, True, True])
    found = losses(outputs, batch, coding=coding, box_loss=regression_loss(loss, 0.1))
    total, count, classes = 0.0, 0, 0.0
    for i, label in enumerate(batch["label"]):
        scores = outputs["logits"][i].astype(np.float64)
        classes += np.log(np.exp(scores).sum()) - scores[label]
        own = outputs["box_numbers"][i, label if boxes > 1 else 0].astype(np.float64)
        errors = []
        for box, kind, valid in zip(batch["boxes"][i], batch["classes"][i], batch["valid"][i]):
            if valid and kind == label + 1:
                errors.append(np.abs(own - numbers_of(box, coding, 60, 80)))
        if errors:
            error = min(errors, key=np.sum)  # any of the objects counts
            smooth = np.where(error < 0.1, error**2 / 0.2, error - 0.05)
            total, count = total + {"l2": error**2, "l1": error, "smooth_l1": smooth}[loss].sum(), count + 1
    assert count == 2
    np.testing.assert_allclose(found["box"], (total, count), rtol=1e-5)
    np.testing.assert_allclose(found["class"], (classes, 3), rtol=1e-5)
    batch["real"] = np.array([False, True, True])
    assert losses(outputs, batch, coding=coding, box_loss=regression_loss(loss, 0.1))["box"][1] == 1


def test_only_the_labels_box_learns():
    outputs, batch = problem()
    gradient = jax.grad(
        lambda numbers: losses(
            {**outputs, "box_numbers": numbers}, batch, coding="centre", box_loss=regression_loss("l2", 1)
        )["box"][0]
    )(outputs["box_numbers"])
    moved = np.abs(gradient).sum(-1) > 0
    assert np.argwhere(moved).tolist() == [[0, 2], [1, 0]]


def test_the_boxs_loss_does_not_depend_on_the_pictures_size():
    found = [losses(*problem(scale=s), coding="centre", box_loss=regression_loss("l2", 1))["box"][0] for s in (1, 4)]
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize("boxes", [3, 1])
def test_every_class_is_given_its_box(boxes):
    outputs, batch = problem(boxes)
    outputs["box_numbers"][0, 0] = 0.5, 0.5, -0.2, 0.4  # without any width
    outputs["box_numbers"][1, 0] = 0.0, 0.9, 0.5, 0.4  # beyond two edges
    found = predict(outputs, batch, coding="centre")
    np.testing.assert_allclose(found["probabilities"], jax.nn.softmax(outputs["logits"]), rtol=1e-6)
    for i, k in np.ndindex(3, 3):
        x, y, w, h = outputs["box_numbers"][i, k if boxes > 1 else 0] * np.array([80, 60, 80, 60])
        box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        box[2:] = np.maximum(box[:2], box[2:])
        height, width = batch["image_size"][i]
        np.testing.assert_allclose(found["class_boxes"][i, k], box.clip(0, [width, height] * 2), atol=1e-4)
    assert found["class_boxes"][0, 0, 0] == found["class_boxes"][0, 0, 2] and found["class_boxes"][1, 0, 0] == 0


def test_the_box_is_linear_and_may_leave_the_picture():
    network = Network("classification_localization")
    batch = network.batch([example(0), example(1)])
    variables = jax.tree.map(np.array, network.variables)
    before = network.forward(variables, batch)[0]["box_numbers"]
    np.testing.assert_array_equal(before, np.full((2, 3, 4), 0.5))  # it begins in the middle
    variables["params"]["box"]["bias"] += np.arange(12) - 6
    after = network.forward(variables, batch)[0]["box_numbers"]
    np.testing.assert_allclose(after, before + np.arange(-6, 6).reshape(3, 4), atol=1e-5)


def test_predictions_do_not_see_the_ground_truth():
    network = Network("classification_localization")
    batch = network.batch([example(2), example(3)])
    other = {**network.batch([example(5), example(7)]), "image": batch["image"]}
    for name, value in network.forward(network.variables, batch)[2].items():
        np.testing.assert_array_equal(network.forward(network.variables, other)[2][name], value)


def test_it_is_vgg16_with_four_outputs_more_or_four_for_each_class():
    """138,357,544 parameters with the 1000 classes of ImageNet."""
    for per_class, boxes in ((False, 1), (True, 1000)):
        params = shapes("classification_localization", (224, 224), num_classes=1000, per_class=per_class)["params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 138_357_544 + (4096 + 1) * 4 * boxes
    assert params.keys() == {"trunk", "fc6", "fc7", "head", "box"}
    assert params["trunk"].keys() == shapes("vgg", (224, 224), num_classes=3)["params"]["trunk"].keys()
    assert params["fc6"]["kernel"].shape == (7 * 7 * 512, 4096)


@pytest.mark.parametrize("name", BACKBONES)
def test_any_classifier_is_a_trunk(name):
    backbone = {"name": name, **SMALL[name]}
    architecture = architectures.create(
        "classification_localization", num_classes=3, backbone=backbone, cells=2, fc=(8,)
    )
    batch = blank(FIELDS, (64, 64), 2)
    variables = jax.eval_shape(architecture.init, jax.random.key(0), batch)
    alone = jax.eval_shape(create(name).init, jax.random.key(0), batch)
    assert variables["params"]["trunk"] == alone["params"]["trunk"]
    outputs = jax.eval_shape(architecture.model.apply, variables, batch)
    assert outputs["box_numbers"].shape == (2, 3, 4) and "c1" in outputs
    found = jax.eval_shape(architecture.predict, outputs, batch)
    assert {k: v.shape for k, v in found.items()} == {"probabilities": (2, 3), "class_boxes": (2, 3, 4)}


def test_a_trunk_brings_its_colours():
    assert classifier_trunk("darknet")[1:] == ((0.5,) * 3, (0.5,) * 3)
    assert classifier_trunk({"name": "googlenet", "transform_input": True})[1:] == ((0.5,) * 3, (0.5,) * 3)
    assert classifier_trunk("resnet")[1:] == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    trunk, *_ = classifier_trunk({"name": "resnet", "norm": "batch"}, norm="frozen")
    assert trunk.norm == "frozen"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backbone": "mask_rcnn"},
            "A backbone is a classifier with a trunk; 'mask_rcnn', for instance_segmentation, is none",
        ),
        ({"backbone": {"depths": (1,)}}, "A backbone needs the name of a classifier"),
        ({"backbone": "resnet51"}, "There is no architecture 'resnet51'; did you mean"),
        ({"backbone": "alexnet", "norm": "frozen"}, "'alexnet' has no option 'norm'"),
        ({"coding": "xywh"}, "coding 'xywh' is not one of centre, corners"),
        ({"loss": "huber"}, "loss 'huber' is not one of l2, l1, smooth_l1"),
        ({"loss": "smooth_l1", "beta": 0}, "beta is 0: up to that error smooth L1 is quadratic"),
    ],
)
def test_what_cannot_be_meant_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("classification_localization", num_classes=3, **options)


def test_a_map_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="The trunk has no map 'c9'; it has c1, c2, c3, c4, c5"):
        architecture = create("classification_localization", level="c9")
        jax.eval_shape(architecture.init, jax.random.key(0), blank(FIELDS, (64, 64)))


def test_freeze_then_finetune(prepared, tmp_path):
    """While the heads learn the trunk stays, its running statistics too; then everything moves."""
    trunk = dict(name="darknet", stages=(((8, 3, 4),), ((8, 3, 2),)), pools=0, norm="batch")
    localizer = dict(name="classification_localization", backbone=trunk, cells=2, fc=(16,), dropout=0.0)
    plan = (
        dict(name="classify", architecture=trunk),
        dict(
            name="heads",
            architecture={**localizer, "norm": "frozen"},
            init=(("^trunk/", "classify"),),
            optimizer=dict(trainable="^(?!trunk/)"),
        ),
        dict(name="all", architecture=localizer, init=((".*", "heads"),)),
    )
    config = tiny_config("resnet", prepared("single"), steps=2, stages=plan, optimizer={"learning_rate": 0.01})
    scores = run(config, str(tmp_path))["validation"]
    assert {"top1", "top5", "loc/top1", "loc/top5", "loc/gt_known", "loss/box", "loss/class"} <= scores.keys()
    classify, heads, both = (load_variables(str(tmp_path / stage["name"])) for stage in plan)

    def same(a, b, part):
        equal = jax.tree.map(np.array_equal, a[part]["trunk"], b[part]["trunk"])
        return np.array(jax.tree.leaves(equal))

    for part in ("params", "batch_stats"):
        assert same(classify, heads, part).all() and not same(heads, both, part).any()
    assert not np.array_equal(heads["params"]["box"]["kernel"], both["params"]["box"]["kernel"])
    assert len(lines(tmp_path / "heads")) == 2
