"""A small FCOS on the embedded scenes, from scratch, in ten minutes on two CPU cores.

python train.py --config=configs/fcos_scenes.py --workdir=runs/fcos_scenes

reaches: box/AP 0.45 box/AP50 0.70 validation and test seed 0 600 s
"""

from configs import retinanet_scenes


def get_config():
    config = retinanet_scenes.get_config()
    architecture = config.architecture.to_dict()
    del architecture["anchor_sizes"], architecture["box_loss"]
    config.architecture = {
        **architecture,
        "name": "fcos",
        "cells": (4, 8, 16),
        "scale_range": (2, 4),  # objects have 16 to 64 pixels
        "alpha": 0.5,
        "gamma": 1.0,  # with 2, what tells the classes apart is learned later
        "score_threshold": 0.05,  # a short training is not sure of much
    }
    config.losses = {"class": 2.0}
    return config
