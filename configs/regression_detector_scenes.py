"""Plain regression of eight boxes on the embedded scenes, from scratch on two CPU cores: an idea that fails.

python train.py --config=configs/regression_detector_scenes.py --workdir=runs/regression_detector_scenes

reaches: (not measured yet)
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 2200
    config.batch_size = 16
    config.architecture = dict(
        name="regression_detector",
        slots=8,
        depths=(1, 1, 2, 2, 1),
        widths=(16, 32, 64, 128, 128),
        fc=256,
        dropout=0.2,
        norm="batch",
    )
    config.data.stretch = True
    config.data.test = "test"
    config.optimizer.learning_rate = 2e-3
    config.evaluate.every = 1100
    return config
