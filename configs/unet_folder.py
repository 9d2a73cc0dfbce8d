"""U-Net on a folder of images and masks, by the paper: elastic deformation, weights at borders, one large image a step.

python train.py --config=configs/unet_folder.py --workdir=runs/unet_folder

reaches: (not measured here; the paper has IU 0.92 on PhC-U373 and 0.775 on DIC-HeLa)

`config.data.dir` is the folder that holds train/images, train/masks, validation/images and validation/masks. Momentum 0.99,
batches of one, He's initialisation, dropout at the end of the way down; weights 10 and 5 pixels; a field of 3 x 3 nodes of
10 pixels.

Departures: the rate and the number of steps, which the paper does not give; the channels of its figure with colour images.
"""

from jaxvision import config as configs


def get_config():
    config = configs.default()
    config.steps = 30_000
    config.batch_size = 1
    config.architecture = dict(name="unet")
    config.data.source = "folder"
    config.data.train = "train/images:train/masks"
    config.data.validation = "validation/images:validation/masks"
    config.data.canvas = (512, 512)
    config.data.workers = 4
    config.data.transforms = dict(elastic={}, flip={}, quarter_turn={}, border_weights={})
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.99
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"
    config.evaluate.every = config.checkpoint.every = 1000
    return config
