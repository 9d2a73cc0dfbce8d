"""A sliding window over the embedded scenes, from scratch on two CPU cores: an idea that fails.

python train.py --config=configs/sliding_window_detector_scenes.py --workdir=runs/sliding_window_detector_scenes

A step sees 64 windows of an image, an evaluation all 2,237.

reaches: (not measured yet)
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 3000
    config.batch_size = 8
    config.architecture = dict(
        name="sliding_window_detector",
        sides=(16, 24, 36, 54),  # objects have 16 to 64 pixels
        ratios=(0.5, 1.0, 2.0),
        step=0.35,
        view=16,
        widths=(16, 32, 64),
        fc=128,
        dropout=0.2,
        samples=64,
        candidates=50,
        detections=20,
        norm="batch",
    )
    config.data.stretch = True
    config.data.test = "test"
    config.optimizer.learning_rate = 2e-3
    config.evaluate.every = 3000
    return config
