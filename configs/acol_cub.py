"""ACoL on VGG16 for the 200 birds of CUB-200-2011 by the authors' code.

python train.py --config=configs/acol_cub.py --workdir=runs/acol_cub

reaches: (not measured here; the paper has a localisation error of 54.08 for one guess and 43.49 for five on the test set)

`config.data.dir` is the folder that holds CUB_200_2011; the ImageNet weights lie where train.py is run. Sixty epochs; all
else, and the departures, as in configs/acol_imagenet.py.
"""

from configs import acol_imagenet


def get_config():
    config = acol_imagenet.get_config(images=5994, epochs=60)
    config.data.source = "cub:."
    config.data.train = "train"
    config.data.validation = "test"
    config.evaluate.every = config.checkpoint.every = 10 * 5994 // acol_imagenet.BATCH
    return config
