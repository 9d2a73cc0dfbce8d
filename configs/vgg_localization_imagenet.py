"""VGG16's localisation on ImageNet, a box for each class ("pcr") or one for all ("scr"), all layers tuned.

python train.py --config=configs/vgg_localization_imagenet.py --workdir=runs/vgg_localization_imagenet

reaches: (not measured here)

"scr" is --config=configs/vgg_localization_imagenet.py:scr. The weights of torchvision's classifier lie where train.py is run.
Departures: pictures are stretched to one size, where the authors take crops at two scales; the loss of the class goes on, where
theirs ends with the classifier's training.
"""

from jaxvision import config as configs


def get_config(form="pcr"):
    if form not in ("pcr", "scr"):
        raise ValueError(f'the form is "pcr" or "scr", got {form!r}')
    config = configs.default()
    config.steps = 100_000
    config.batch_size = 256
    config.architecture = dict(
        name="classification_localization", backbone="vgg", per_class=form == "pcr", loss="l2", coding="centre"
    )
    config.data.source = "ilsvrc:."
    config.data.train = "train_loc"
    config.data.validation = "val"
    config.data.canvas = (224, 224)
    config.data.stretch = True
    config.data.max_boxes = 20
    config.data.workers = 16
    config.data.transforms = dict(window_jitter=dict(amount=0.1), flip={})
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "step:60000,90000"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.init = (("^(trunk|fc)", "vgg16:vgg16-397923af.pth"),)
    config.evaluate.every = 10_000
    config.evaluate.metric = "loc/top5"
    config.checkpoint.every = 5000
    return config
