"""AlexNet on ImageNet by torchvision's recipe.

python train.py --config=configs/alexnet_imagenet.py --workdir=runs/alexnet_imagenet

reaches: (not measured here; torchvision's IMAGENET1K_V1 has top1 0.56522 and top5 0.79066, in the middle of pictures of 256
pixels; the paper's network of 2012, of two towers and normalised, has 0.593 and 0.818)

That of configs/resnet_imagenet.py, with its departures, at a rate of 0.01.
"""

from configs import resnet_imagenet


def get_config():
    config = resnet_imagenet.get_config()
    config.architecture = dict(name="alexnet")
    config.optimizer.learning_rate = 0.01
    return config
