"""A narrow R-CNN on the embedded scenes, from scratch, in all its stages.

python train.py --config=configs/rcnn_scenes.py --workdir=runs/rcnn_scenes

reaches: box/AP50 0.50 validation and test seed 0 1800 s

The trunk learns to classify windows around objects (it is scored on whole scenes, of which it knows little), the network then
proposed regions; the SVMs and the box regression are fitted on the host.
"""

from jaxvision import config as configs

PROPOSALS = dict(method="selective_search", strategy="fast", base_k=150, inc_k=150, width=0, min_size=8, count=128)
TRUNK = dict(depths=(1, 1, 1, 1, 1), widths=(16, 32, 48, 64, 96))


def get_config():
    config = configs.default()
    config.batch_size = 16
    config.architecture = dict(
        name="rcnn",
        trunk="vgg11",
        norm="frozen",
        side=64,
        context=5,
        fc=256,
        dropout=0.1,
        classifier="svm",
        samples=16,
        detections=20,
        **TRUNK,
    )
    config.data.source = "scenes/shapes"
    config.data.train = "train[:50%]"
    config.data.test = "test"
    config.data.canvas = (128, 128)
    config.data.max_boxes = 6
    config.data.proposals = PROPOSALS
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 50
    config.optimizer.weight_decay = 0.01
    config.stages = stages(TRUNK, tuning=dict(steps=600, evaluate=dict(every=600)))
    return config


def stages(trunk, tuning):
    """Pretraining of a trunk, tuning with changes of its own, SVMs, boxes."""
    pretrain = dict(
        name="pretrain",
        # The last map is averaged: dense layers die while a trunk knows nothing.
        architecture=dict(name="cam", backbone=dict(name="vgg", norm="batch", **trunk), layer="c5", dropout=0.1),
        data=dict(
            source="scenes/single",
            train="train",
            canvas=(64, 64),
            test="",
            proposals={},
            transforms=dict(object_crop=dict(side=64, context=1.5, alone=False, jitter=0.2), flip={}, quarter_turn={}),
        ),
        steps=1000,
        batch_size=32,
        evaluate=dict(every=1000),
        optimizer=dict(learning_rate=3e-3),
    )
    tune = dict(
        name="tune",
        architecture=dict(classifier="softmax"),
        data=dict(test="", transforms=dict(flip={})),
        init=(("^trunk/", "pretrain"),),
        **tuning,
    )
    svms = dict(name="svms", fit="fit_svms", init=((".*", "tune"),), data=dict(test=""))
    boxes = dict(name="boxes", fit="fit_boxes", init=((".*", "svms"),))
    return pretrain, tune, svms, boxes
