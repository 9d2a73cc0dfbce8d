"""Every registered architecture at a size that compiles in seconds, and pictures it can learn by heart."""

import functools
import os

import jax
import numpy as np
from tiny import FCN8S, MASK_RCNN, RESNET

from jaxvision import architecture as architectures
from jaxvision import batch as fields
from jaxvision import tasks
from jaxvision.batch import INPUTS, split_host
from jaxvision.data import collate
from jaxvision.data.transforms import ResizeToCanvas

SIDE = 64
PROPOSALS = 24  # rows; an example fills all but two
CLASS_NAMES = ("background", "tall", "wide", "large")


def _without_name(options, **changes):
    return {name: value for name, value in {**options, **changes}.items() if name != "name"}


DENSE = dict(  # what RetinaNet and FCOS have in common
    backbone="resnet18_fpn",
    depths=(1, 1, 1, 1),
    widths=(12, 12, 16, 16),
    stem="stride",
    stem_width=8,
    norm="batch",
    fpn=16,
    head_convs=1,
    head_norm="group",
    candidates=50,
    detections=5,
)
TWO_STAGE = _without_name(  # what Faster, Mask and Keypoint R-CNN have in common
    {name: value for name, value in MASK_RCNN.items() if not name.startswith("mask_")},
    widths=(12, 12, 16, 16),
    fpn=16,
    box_features=32,
    post_nms=(24, 24),
    samples=24,
    class_agnostic=False,
)
NARROW = dict(  # a dilated ResNet of few channels
    depths=(1, 1, 1, 1),
    widths=(4, 4, 8, 16),
    stem="stride",
    stem_width=8,
    aux=True,
    dropout=0.0,
    norm="batch",
)
BACKBONES = ("alexnet", "darknet", "googlenet", "mobilenet_v3", "nin", "resnet", "squeezenet", "vgg", "zfnet")
CLASSIFIERS = (*BACKBONES, "acol", "cam")
WITHOUT_BACKGROUND = (*CLASSIFIERS, "classification_localization")
VGG = dict(name="vgg", depths=(1, 1, 1, 1), widths=(8, 12, 16, 24), norm="batch")
SMALL = {
    "acol": dict(
        backbone=dict(**VGG, window=3, flat=1),
        layer="c4",
        width=16,
        norm="batch",
    ),
    "alexnet": dict(widths=(8, 8, 12, 12, 16), fc=16, dropout=0.0),
    "cam": dict(
        backbone=dict(**VGG, last_pool=False),
        layer="c4",
        convs=(16,),
        norm="batch",
        dropout=0.0,
    ),
    "classification_localization": dict(
        backbone=dict(name="vgg", depths=(1, 1, 1, 1, 1), widths=(8, 8, 12, 12, 16)), cells=2, fc=(32,), dropout=0.0
    ),
    "crf_rnn": dict(  # the base is "full_resolution" below; all pairs compile sooner than the lattice
        base=dict(name="full_resolution", widths=(12, 12, 12)), method="exact", iterations=(1, 2)
    ),
    "darknet": dict(stages=tuple(((width, 3, 1),) for width in (8, 8, 12, 16, 24)), pools=5),
    "deconvnet": dict(depths=(1, 1, 2, 1, 1), widths=(12, 12, 16, 16, 24), fc=48, fc6_kernel=2, start=None),
    "deeplabv3": dict(**NARROW, features=16, rates=(1, 2, 3)),
    "deeplabv3plus": dict(
        **{name: value for name, value in NARROW.items() if name != "aux"},
        backbone="resnet50",
        features=16,
        low_features=8,
        rates=(1, 2),
        decoder_convs=1,
    ),
    "dilated": dict(
        depths=(1, 1, 1, 1, 1),
        widths=(8, 12, 16, 24, 32),
        fc=48,
        fc6_kernel=1,
        dropout=0.0,
        norm="batch",
        context="none",  # which is trained on a front end that is trained already
    ),
    "fast_rcnn": dict(
        backbone="vgg11",
        depths=(1, 1, 1),
        widths=(12, 16, 24),
        norm="batch",
        box_features=48,
        dropout=0.0,
        box_size=4,
        samples=24,
        background=0.0,
        detections=5,
        candidates=50,
    ),
    "faster_rcnn": dict(**TWO_STAGE),
    "fcn32s": _without_name(FCN8S, fc=24),
    "fcn16s": _without_name(FCN8S, fc=24, deconv="learned", norm="group"),
    "fcn8s": _without_name(FCN8S, fc=24, deconv="paper", norm="batch"),
    "fcn_resnet": dict(**NARROW),
    "fcos": dict(**DENSE),
    "full_resolution": dict(widths=(12, 12, 12), norm="batch"),
    "googlenet": dict(width=0.125, dropout=0.0, aux_dropout=0.0, norm="batch"),
    "keypoint_rcnn": dict(**TWO_STAGE, joints=5, keypoint_convs=(16,), keypoint_size=4, keypoint_sampling_ratio=1),
    "lraspp": dict(backbone="mobilenet_v3_small", width=0.5, features=32, norm="batch", momentum=0.8),
    "mask_rcnn": dict(**TWO_STAGE, mask_convs=(16,), mask_size=4, mask_sampling_ratio=1),
    "mobilenet_v3": dict(trunk_name="mobilenet_v3_small", width=0.25, fc=16, dropout=0.0, norm="batch", momentum=0.8),
    "pose": dict(
        joints=5,
        torso=(1, 4),
        backbone=dict(name="vgg", depths=(1, 1, 1, 1, 1), widths=(8, 8, 12, 12, 16)),
        cells=2,
        fc=(32,),
        dropout=0.0,
        side=32,
    ),
    "nin": dict(
        blocks=((5, 1, 2, (8, 8, 8)), (5, 1, 2, (12, 12, 12)), (3, 1, 1, (16, 16))),
        dropout=0.0,
    ),
    "rcnn": dict(
        trunk="vgg11",
        depths=(1, 1, 1, 1, 1),
        widths=(8, 8, 12, 12, 16),
        side=32,
        context=4,
        fc=32,
        dropout=0.0,
        samples=12,
        positive_fraction=0.5,
        candidates=16,
        detections=5,
    ),
    "regression_detector": dict(
        slots=5, depths=(1, 1, 1, 1, 1), widths=(8, 8, 12, 12, 16), fc=48, dropout=0.0, score_threshold=0.1
    ),
    "resnet": _without_name(RESNET),
    "retinanet": dict(**DENSE, anchor_sizes=((16, 24), (32, 40), (48, 56), (64, 72), (80, 96))),
    "sliding_window": dict(widths=(8, 12), fc=16, dropout=0.0, samples=400),
    "sliding_window_detector": dict(
        sides=(20, 26),
        ratios=(0.375, 1.0, 2.667),
        step=0.25,
        view=16,
        widths=(8, 12, 16),
        fc=32,
        dropout=0.0,
        samples=32,
        score_threshold=0.1,
        candidates=16,
        detections=5,
    ),
    "sppnet": dict(
        trunk="vgg11",
        depths=(1, 1, 1),
        widths=(8, 12, 16),
        levels=(1, 2),
        tune_trunk=True,
        fc=32,
        dropout=0.0,
        samples=12,
        positive_fraction=0.5,
        least_overlap=0.0,
        candidates=16,
        detections=5,
    ),
    "squeezenet": dict(stem_width=8, widths=(8, 8, 8, 8), dropout=0.0),
    "ssd": dict(
        depths=(1, 1, 1, 1, 1),
        widths=(8, 8, 12, 16, 16),
        fc=24,
        dilation=2,
        extras=((12, 16, 2, 1),),
        scales=(0.2, 0.35, 0.5, 0.8),
        ratios=((2,), (2, 3), (2,)),
        steps=None,
        mean=(0.2,) * 3,
        std=(0.5,) * 3,
        score_threshold=0.1,
        candidates=16,
        detections=5,
    ),
    "ssdlite": dict(
        trunk_name="mobilenet_v3_small",
        width=0.25,
        extras=(16,),
        scales=(0.3, 0.45, 0.6, 0.9),
        ratios=((2,), (2, 3), (2,)),
        score_threshold=0.1,
        candidates=16,
        detections=5,
        norm="batch",
        momentum=0.8,
    ),
    "unet": dict(widths=(8, 8, 12, 12, 16), dropout=0.0, norm="batch"),
    "vgg": dict(depths=(1, 1, 1, 1, 1), widths=(8, 8, 12, 12, 16), fc=16, dropout=0.0),
    "yolo": dict(
        stages=tuple(((width, 3, 1),) for width in (8, 8, 12, 16, 24)),
        pools=5,
        fc=(64,),
        grid=4,
        dropout=0.0,
        score_threshold=0.1,
        detections=5,
        norm="batch",
    ),
    "zfnet": dict(widths=(8, 8, 12, 12, 16), fc=16, dropout=0.0),
}


def create(name: str, **changes) -> architectures.Architecture:
    classes = len(CLASS_NAMES) - (name in WITHOUT_BACKGROUND)
    return architectures.create(name, num_classes=classes, **{**SMALL[name], **changes})


def kept_and_dropped(architecture, variables, batch) -> tuple[dict, dict]:
    """Outputs without dropout, and with it as in training, where BatchNorm takes the batch's statistics."""

    @functools.partial(jax.jit, static_argnames="train")
    def apply(variables, train):
        rngs = {"dropout": jax.random.key(1)}
        return architecture.model.apply(variables, batch, train=train, rngs=rngs, mutable=["batch_stats"])[0]

    return apply(variables, train=False), apply(variables, train=True)


def example(number: int, side: int = SIDE) -> dict:
    """A dark picture with two bright rectangles, of a form and a colour of their own for each class.

    Their joints: the middle, and halfway from there to each corner.
    """
    rng = np.random.default_rng(number)
    image = rng.integers(0, 40, (side, side, 3)).astype(np.uint8)
    forms = {1: (0.5, 0.2), 2: (0.2, 0.5), 3: (0.4, 0.4)}
    classes = np.array([number % 3 + 1, (number + 1) % 3 + 1], np.int32)
    boxes, masks, semantic = [], [], np.zeros((side, side), np.int32)
    for half, label in enumerate(classes):
        height, width = (int(share * side) for share in forms[label])
        y = int(rng.integers(2, side - height - 2))
        x = half * side // 2 + int(rng.integers(0, max(1, side // 2 - width)))
        x = min(x, side - width)
        mask = np.zeros((side, side), np.uint8)
        mask[y : y + height, x : x + width] = 1
        image[mask > 0] = np.eye(3)[label - 1] * 220
        boxes.append([x, y, x + width, y + height])
        masks.append(mask & (semantic == 0))  # the first lies above
        semantic[masks[-1] > 0] = label
    return {
        "image": image,
        "image_id": number,
        "boxes": np.array(boxes, np.float32),
        "classes": classes,
        "masks": np.stack(masks),
        "keypoints": np.array([joints(box) for box in boxes], np.float32),
        "semantic": semantic,
        "label": int(classes[0]) - 1,
        "proposals": proposals(np.array(boxes, np.float32), rng, side),
    }


def proposals(boxes, rng, side: int, count: int = PROPOSALS - 2) -> np.ndarray:
    """Boxes (count, 4), two thirds of them near the objects, the others anywhere."""
    corners = rng.uniform(0, side - 16, (count, 2))
    found = np.concatenate([corners, corners + rng.uniform(8, 40, (count, 2))], 1)
    near = 2 * count // 3
    found[:near] = boxes[np.arange(near) % len(boxes)] + rng.normal(0, 3, (near, 4))
    return found.clip(0, side).astype(np.float32)


def joints(box) -> list:
    x1, y1, x2, y2 = box
    places = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))
    return [(x1 + u * (x2 - x1), y1 + v * (y2 - y1), 2) for u, v in places]


def halves(number: int, side: int = SIDE) -> dict:
    """Two objects that fill a half of the picture each: all that scores at stride 32 can draw."""
    found = example(number, side)
    columns = np.arange(side) // (side // 2)
    semantic = np.tile(found["classes"][columns], (side, 1))
    image = (np.eye(3)[semantic - 1] * 220).astype(np.uint8)
    return {**found, "image": image, "semantic": semantic}


def empty(number: int, side: int = SIDE) -> dict:
    """A picture without any object; every pixel of its semantic map is ignored."""
    found = example(number, side)
    return {
        **found,
        "boxes": np.zeros((0, 4), np.float32),
        "classes": np.zeros(0, np.int32),
        "masks": np.zeros((0, side, side), np.uint8),
        "keypoints": np.zeros((0, 5, 3), np.float32),
        "semantic": np.full((side, side), 255, np.int32),
    }


def batch_of(examples, task: str, canvas=(SIDE, SIDE), max_boxes: int = 3) -> dict[str, np.ndarray]:
    """What the loader would make of the examples, for the device."""
    fit = ResizeToCanvas(canvas)
    fields = tasks.get(task).fields
    return split_host(collate.stack([collate.row(fit(e, None), fields, max_boxes, 28, PROPOSALS) for e in examples]))[0]


def shapes(name: str, canvas=(SIDE, SIDE), **options) -> dict:
    """The variables of an architecture of any size, as shapes alone."""
    architecture = architectures.create(name, **options)
    blank = fields.blank(tasks.get(architecture.task).fields, canvas)
    return jax.eval_shape(architecture.init, jax.random.key(0), blank)


class Network:
    """An architecture with variables and its compiled evaluation: one compilation for all the tests of a module."""

    def __init__(self, name: str, **changes):
        self.architecture = create(name, **changes)
        self.task = self.architecture.task
        self.batch = functools.partial(batch_of, task=self.task)
        self.pictures = [(halves if name == "fcn32s" else example)(number) for number in (0, 4)]
        self.variables = self.architecture.init(jax.random.key(0), self.batch(self.pictures))

        def forward(variables, batch):
            outputs = self.architecture.model.apply(variables, batch, train=False)
            return outputs, self.architecture.losses(outputs, batch), self.architecture.predict(outputs, batch)

        self.forward = jax.jit(forward)


def check_predictions_are_blind(network: Network) -> None:
    """Predictions are the same with another ground truth and with none, to the bit."""
    flag = "xla_cpu_use_fusion_emitters"  # without them, as tests compile, two programs round differently
    options = {flag: True} if flag in os.environ["XLA_FLAGS"] else None
    forward = jax.jit(network.forward.__wrapped__, compiler_options=options)
    batch = network.batch([example(2), example(3)])
    _, _, predictions = forward(network.variables, batch)
    other = {
        **batch,
        **{n: network.batch([example(5), empty(6)])[n] for n in tasks.get(network.task).fields if n not in INPUTS},
    }
    _, _, same = forward(network.variables, other)

    @functools.partial(jax.jit, compiler_options=options)
    def blind(variables, batch):
        return network.architecture.predict(network.architecture.model.apply(variables, batch), batch)

    without = blind(network.variables, {name: batch[name] for name in INPUTS if name in batch and name != "real"})
    assert predictions["valid"].any()
    for name, value in predictions.items():
        np.testing.assert_array_equal(same[name], value, err_msg=name)
        np.testing.assert_array_equal(without[name], value, err_msg=name)
