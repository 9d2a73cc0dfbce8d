"""A small YOLO on the embedded scenes, from scratch on two CPU cores.

python train.py --config=configs/yolo_scenes.py --workdir=runs/yolo_scenes

With batch normalisation, and a 1x1 convolution that reads the cells of the last map in place of the paper's connected layers
(`--config.architecture.grid=8`), which have weights of their own for each cell. Loss, boxes and scores are the paper's.

reaches: (not measured yet)
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 2200
    config.batch_size = 16
    config.architecture = dict(
        name="yolo",
        stages=(
            ((16, 3, 1),),
            ((32, 3, 1),),
            ((64, 3, 1), (64, 3, 1)),
            ((128, 3, 1), (64, 1, 1), (128, 3, 1)),
            ((192, 3, 1), (96, 1, 1), (192, 3, 1)),
        ),
        pools=4,
        fc=(512,),
        grid=None,
        score_threshold=0.01,
        detections=20,
        norm="batch",
    )
    config.data.stretch = True
    config.data.test = "test"
    config.optimizer.learning_rate = 2e-3
    config.evaluate.every = 1100
    return config
