"""Losses of segmenters by option, against plain numpy."""

import functools

import jax
import numpy as np
import pytest
from small import create

from jaxvision.losses.overlap import dice, lovasz_softmax
from jaxvision.models.segmentation.objective import objective

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5, 6, 4)).astype(np.float32)
SEMANTIC = RNG.integers(0, 4, (3, 5, 6)).astype(np.int32)
SEMANTIC[0, :2] = 255
BATCH = {"semantic": SEMANTIC, "real": np.array([True, True, False])}
COUNTED = (SEMANTIC != 255) & BATCH["real"][:, None, None]


def losses(batch=BATCH, outputs=None, **options):
    found = jax.jit(objective(options))(outputs or {"logits": LOGITS}, batch)
    return {name: (float(total), float(count)) for name, (total, count) in found.items()}


def cross_entropy(logits=LOGITS):
    """-log softmax of each pixel's class, (3,5,6); nonsense where the pixel does not count."""
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(log, np.minimum(SEMANTIC, 3)[..., None], -1)[..., 0]


def binary(logits=LOGITS):
    """Per class, (3,5,6,4), with the truth of each class."""
    truth = np.arange(4) == SEMANTIC[..., None]
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return np.where(truth, -np.log(p), -np.log1p(-p)), truth, p


def test_softmax_is_the_default():
    wanted = cross_entropy()[COUNTED]
    assert losses() == {"pixel": pytest.approx((wanted.sum(), COUNTED.sum()), rel=1e-5)}
    assert objective(None) is objective({}) is create("unet").losses


def test_class_weights_count_in_the_sum_and_in_the_count():
    weights = np.array([0.5, 2.0, 1.0, 0.0])
    each = weights[np.minimum(SEMANTIC, 3)][COUNTED]
    wanted = (each * cross_entropy()[COUNTED]).sum(), each.sum()
    assert losses(class_weights=tuple(weights))["pixel"] == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ValueError, match="2 class_weights for 4 classes"):
        losses(class_weights=(1, 2))


def test_weights_of_pixels_count_in_the_sum_alone():
    """U-Net's border weights: more of them is a greater loss, not another mean."""
    weights = RNG.random((3, 5, 6)).astype(np.float32) * 10
    wanted = (weights * cross_entropy())[COUNTED].sum(), COUNTED.sum()
    assert losses({**BATCH, "pixel_weights": weights})["pixel"] == pytest.approx(wanted, rel=1e-5)


def test_the_sum_over_images_is_fcns_unnormalised_loss():
    wanted = cross_entropy()[COUNTED].sum(), 2
    assert losses(over="images")["pixel"] == pytest.approx(wanted, rel=1e-5)
    assert losses({"semantic": SEMANTIC}, over="images")["pixel"][1] == 3


def test_hard_pixels_of_each_image():
    values, total, count = cross_entropy(), 0, 0
    for image in (0, 1):
        kept = np.sort(values[image][COUNTED[image]])[::-1]
        number = int(np.ceil(0.3 * len(kept)))
        total, count = total + kept[:number].sum(), count + number
    assert losses(hard=0.3)["pixel"] == pytest.approx((total, count), rel=1e-5)


def test_sigmoid_asks_each_class_and_classes_may_overlap():
    values, truth, _ = binary()
    assert losses(pixel="sigmoid")["pixel"] == pytest.approx((values[COUNTED].sum(), COUNTED.sum()), rel=1e-5)
    both = truth | (RNG.random(truth.shape) < 0.3)
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    wanted = np.where(both, -np.log(p), -np.log1p(-p))[COUNTED].sum()
    found = losses({**BATCH, "semantic_labels": both}, pixel="sigmoid")["pixel"]
    assert found == pytest.approx((wanted, COUNTED.sum()), rel=1e-5)
    assert wanted != pytest.approx(values[COUNTED].sum(), rel=1e-2)


def test_focal_is_the_binary_one_with_its_factors():
    values, truth, p = binary()
    right = np.where(truth, p, 1 - p)
    factor = np.where(truth, 0.25, 0.75) * (1 - right) ** 2
    wanted = (values * factor)[COUNTED].sum(), COUNTED.sum()
    assert losses(pixel="focal")["pixel"] == pytest.approx(wanted, rel=1e-4)
    plain = losses(pixel="focal", gamma=0.0, alpha=-1.0)["pixel"]
    assert plain == pytest.approx(losses(pixel="sigmoid")["pixel"], rel=1e-5)


def test_regions_are_terms_of_their_own_and_auxiliary_heads_take_the_same_loss():
    aux = RNG.normal(size=LOGITS.shape).astype(np.float32)
    found = losses(outputs={"logits": LOGITS, "aux_logits": aux}, regions=("dice", "lovasz"), over="images")
    assert set(found) == {"pixel", "aux", "dice", "lovasz"}
    assert found["aux"] == pytest.approx((cross_entropy(aux)[COUNTED].sum(), 2), rel=1e-5)
    for name, function in (("dice", dice), ("lovasz", lovasz_softmax)):
        wanted = jax.jit(functools.partial(function, ignore=255))(LOGITS, SEMANTIC, BATCH["real"])
        assert found[name] == pytest.approx(tuple(map(float, wanted)), rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"pixel": "sigmoid"}, {"pixel": "focal"}, {"hard": 0.5}, {"regions": ("dice", "lovasz")}, {"over": "images"}],
)
def test_nothing_to_learn_from_is_no_loss_and_no_nan(options):
    batch = {"semantic": np.full_like(SEMANTIC, 255)}

    @jax.jit
    @jax.grad
    def gradient(logits):
        return sum(total for total, _ in objective(options)({"logits": logits}, batch).values())

    assert (np.array(gradient(LOGITS * 1e4)) == 0).all()


def test_options_that_cannot_be_meant():
    for options, match in (
        ({"pixels": "focal"}, "no option 'pixels'; did you mean \"pixel\""),
        ({"pixel": "l2"}, "pixel 'l2' is not one of softmax, sigmoid, focal"),
        ({"over": "batch"}, "over 'batch' is not one of pixels, images"),
        ({"regions": ("dise",)}, "no region loss 'dise'; did you mean \"dice\""),
        ({"hard": 0}, "hard is 0, expected a fraction"),
        ({"gamma": -1.0}, "gamma >= 0"),
    ):
        with pytest.raises(ValueError, match=match):
            create("fcn8s", loss=options)
