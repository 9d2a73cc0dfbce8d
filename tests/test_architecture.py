import jax
import numpy as np
import pytest

import jaxvision
from jaxvision import architecture as architectures
from jaxvision import batch as fields
from jaxvision import tasks

TINY = dict(num_classes=3, trunk_name="resnet18", depths=(1,) * 4, widths=(4,) * 4, stem="stride", stem_width=4)


def test_every_name_leads_to_an_architecture():
    assert architectures.names() == sorted(architectures.REGISTRY)
    for name in architectures.names():
        architecture = jaxvision.create(name, num_classes=5)
        assert isinstance(architecture, jaxvision.Architecture)
        assert architecture.name == name and architecture.options == {"num_classes": 5}
        assert tasks.get(architecture.task).name == architecture.task
        assert jaxvision.create(architecture.name, **architecture.options).model == architecture.model


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mask_rnn", {}, r"no architecture 'mask_rnn'; did you mean \"mask_rcnn\"\? Known: acol, alexnet, "),
        ("qqq", {"num_classes": 2}, r"no architecture 'qqq'; Known: acol, alexnet"),
        ("fcn8s", {"num_class": 2}, r"'fcn8s' has no option 'num_class'; did you mean \"num_classes\""),
        ("mask_rcnn", {"backbone": "resnet18_fpn"}, r"'mask_rcnn' needs the option\(s\) num_classes"),
    ],
)
def test_what_is_unknown_is_named_with_its_nearest(name, options, message):
    with pytest.raises(ValueError, match=message):
        jaxvision.create(name, **options)


def test_weights_are_replaced_by_name():
    architecture = jaxvision.create("mask_rcnn", num_classes=3)
    once = architecture.with_weights({"mask": 2.0, "roi_box": 0.5})
    twice = once.with_weights({"mask": 3.0})
    assert twice.weights == {"mask": 3.0, "roi_box": 0.5} and once.weights["mask"] == 2.0
    assert architecture.weights == {} and architecture.with_weights({}) is architecture
    assert twice.options == architecture.options and twice.name == "mask_rcnn"


def test_init_is_a_function_of_its_key_and_can_be_traced():
    architecture = jaxvision.create("resnet", **TINY)
    batch = fields.blank(("label",), (32, 32))
    first, again, other = (architecture.init(jax.random.key(k), batch) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(first["params"]), jax.tree.leaves(other["params"])))
    shapes = jax.eval_shape(architecture.init, jax.random.key(0), batch)
    assert jax.tree.map(lambda leaf: leaf.shape, first) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    jitted = jax.jit(architecture.init)(jax.random.key(0), batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), first, jitted)
    assert set(first) == {"params", "batch_stats"}  # what may be perturbed is no variable


# The batch


def test_a_blank_batch_has_the_fields_and_shapes_that_are_documented():
    batch = fields.blank(fields.FIELDS, (40, 60), 2, max_boxes=3, mask_size=28, joints=5, proposals=7, classes=4)
    letters = {"H": 40, "W": 60, "N": 3, "M": 28, "K": 5, "P": 7, "C": 4}
    for name, field in fields.FIELDS.items():
        assert batch[name].shape == (2, *(letters.get(side, side) for side in field.shape)), name
        assert batch[name].dtype == field.dtype, name
    assert not batch["valid"].any() and batch["real"].all() and (batch["semantic"] == 255).all()
    np.testing.assert_array_equal(batch["image_size"], [[40, 60]] * 2)


def test_the_hosts_fields_are_split_from_the_devices():
    batch = fields.blank(("label",), (8, 8)) | {"image_id": np.array([7]), "original_size": np.array([[8, 8]])}
    device, host = fields.split_host(batch)
    assert set(host) == {"image_id", "original_size"} and set(device) == {"image", "image_size", "real", "label"}
    assert not set(fields.HOST) & set(fields.FIELDS)


def test_the_public_face_is_what_dir_says():
    for name in jaxvision.__all__:
        assert name in dir(jaxvision) and callable(getattr(jaxvision, name))
    assert jaxvision.ops.__name__ == "jaxvision.ops"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jaxvision.nothing
