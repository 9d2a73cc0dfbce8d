"""VGG16-GAP on ILSVRC by the paper: VGG16 up to its last convolution, one of 1024 channels behind it, means, one layer.

python train.py --config=configs/cam_imagenet.py --workdir=runs/cam_imagenet

reaches: (not measured here; the paper has a localisation error of 57.20 for one guess and 45.14 for five on the validation
set, GoogLeNet-GAP 56.40 and 43.00)

`config.data.dir` is the folder that holds ILSVRC and LOC_synset_mapping.txt; the ImageNet weights lie where train.py is run.
Batches of 256, rate 1e-3 and a tenth of it every 40,000 of 160,000 steps, momentum 0.9, twice the rate for biases: the
solver that the authors publish for GoogLeNet-GAP. Pictures of 256 x 256, of which windows of 224 are learnt from.

Departures: torchvision's weights to begin with; pictures are brought to 256 x 256 by one of five interpolations; scores are
those of the whole picture at 224 x 224, where the paper averages ten windows.
"""

from jaxvision import config as configs

VGG16 = "vgg16:vgg16-397923af.pth"


def get_config():
    config = configs.default()
    config.steps = 160_000
    config.batch_size = 256
    config.architecture = dict(name="cam")
    config.data.source = "ilsvrc:."
    config.data.train = "train_cls"
    config.data.validation = "val"
    config.data.canvas = (224, 224)
    config.data.stretch = True
    config.data.workers = 16
    config.data.transforms = dict(
        random_interpolation=dict(height=256, width=256), crop=dict(height=224, width=224), flip={}
    )
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "step:40000,80000,120000"
    config.optimizer.weight_decay = 5e-4
    config.optimizer.factors = (("bias$", 2.0),)
    config.init = (("^trunk/", VGG16),)
    config.evaluate.every = 10_000
    config.checkpoint.every = 10_000
    return config
