"""A small RetinaNet on the embedded scenes, from scratch, in ten minutes on two CPU cores.

python train.py --config=configs/retinanet_scenes.py --workdir=runs/retinanet_scenes

reaches: box/AP 0.45 box/AP50 0.70 validation and test seed 0 600 s
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 4400
    config.architecture = dict(
        name="retinanet",
        backbone="resnet18_fpn",
        depths=(1, 1, 1, 1),
        widths=(32, 64, 96, 128),
        stem="stride",
        stem_width=24,
        norm="batch",
        fpn=48,
        levels=("c2", "c3", "c4"),
        fpn_norm="batch",
        extra="none",
        head_convs=2,
        head_norm="group",
        anchor_sizes=((16, 23), (32, 45), (64, 90)),  # objects have 16 to 64 pixels
        box_loss="giou",
        candidates=100,
        detections=20,
    )
    config.losses = {"class": 4.0}  # or the boxes have most of the gradient
    config.data.test = "test"
    config.evaluate.every = 2200
    return config
