"""A narrow DeconvNet on the embedded scenes, from scratch and in one stage.

python train.py --config=configs/deconvnet_scenes.py --workdir=runs/deconvnet_scenes

reaches: (not measured yet)
"""

from configs import fcn8s_scenes


def get_config():
    config = fcn8s_scenes.get_config()
    config.steps = 2000
    config.batch_size = 8
    config.architecture = dict(
        name="deconvnet", depths=(2, 2, 2, 2, 2), widths=(12, 24, 48, 64, 96), fc=192, fc6_kernel=2, start=None
    )
    config.evaluate.every = 1000
    return config
