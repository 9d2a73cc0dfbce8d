"""A small SSD on the embedded scenes, from scratch, in ten minutes on two CPU cores.

python train.py --config=configs/ssd_scenes.py --workdir=runs/ssd_scenes

reaches: box/AP 0.45 box/AP50 0.70 validation and test seed 0 600 s
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 2200
    config.batch_size = 16
    config.architecture = dict(
        name="ssd",
        depths=(1, 1, 2, 2, 1),
        widths=(16, 32, 64, 128, 128),
        fc=192,
        dilation=2,
        extras=((96, 128, 2, 1),),
        scales=(0.16, 0.28, 0.5, 0.8),  # objects have 16 to 64 pixels
        ratios=((2, 3), (2, 3), (2,)),
        steps=None,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        nms_threshold=0.5,
        candidates=50,
        detections=20,
        norm="batch",
    )
    config.data.test = "test"
    config.optimizer.learning_rate = 2e-3
    config.evaluate.every = 1100
    return config
