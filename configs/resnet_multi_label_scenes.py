"""The network of configs/resnet_scenes.py says which classes a scene of one to six objects shows.

python train.py --config=configs/resnet_multi_label_scenes.py --workdir=runs/resnet_multi_label_scenes

reaches: (not measured yet)
"""

from configs import resnet_scenes


def get_config():
    config = resnet_scenes.get_config()
    config.architecture.multi_label = True
    config.data.source = "scenes/shapes"
    return config
