"""A narrow SPP-net on the embedded scenes, from scratch, in all its stages.

python train.py --config=configs/sppnet_scenes.py --workdir=runs/sppnet_scenes

reaches: (not measured yet)

The stages are those of configs/rcnn_scenes.py; only the dense layers are tuned.
"""

from configs import rcnn_scenes

TRUNK = dict(depths=(1, 1, 2, 1, 1), widths=(24, 48, 96, 96, 96))
DENSE = "^(fc6|fc7|logits)/"


def get_config():
    config = rcnn_scenes.get_config()
    config.architecture = dict(
        name="sppnet",
        trunk="vgg11",
        norm="frozen",
        level="c3",  # of stride 8: objects have 16 to 64 pixels
        fc=256,
        dropout=0.1,
        classifier="svm",
        samples=32,
        detections=20,
        **TRUNK,
    )
    tuning = dict(steps=1500, optimizer=dict(trainable=DENSE), evaluate=dict(every=1500))
    config.stages = rcnn_scenes.stages(TRUNK, tuning)
    return config
