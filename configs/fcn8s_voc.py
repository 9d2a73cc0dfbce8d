"""FCN-8s on VOC by the paper: FCN-32s from VGG16, FCN-16s from that, FCN-8s from that.

python train.py --config=configs/fcn8s_voc.py --workdir=runs/fcn8s_voc

reaches: (not measured here; the paper has mean IU 0.594, 0.624 and 0.627 on the 736 images of VOC 2011's validation that
are not in SBD's training set)

`config.data.dir` is the folder that holds benchmark_RELEASE, SBD, and VOCdevkit/VOC2012; the ImageNet weights lie where
train.py is run. Momentum 0.9, batches of 20, a fixed rate of 1e-4, a hundredth of it for each finer net, twice the rate for
biases. The authors' published nets were trained otherwise: images one by one, momentum 0.99, and the sum of the pixels'
losses, `loss=dict(over="images")`, at 1e-10, 1e-12 and 1e-14; `at_once=True` is theirs too.

Departures: VOC 2012's whole validation set, of which SBD's training set holds a part: give a list of your own as
`data.validation` to be exact; 175 epochs for the first stage, as the paper has at least, and 60 for the others, a third of
its days; dropout as in VGG16; images whose longer side is not 500 pixels are scaled to it.
"""

from jaxvision import config as configs

EPOCH = 8498 // 20
VGG16 = "vgg16:vgg16-397923af.pth"


def get_config():
    config = configs.default()
    config.batch_size = 20
    config.architecture = dict(name="fcn8s")
    config.data.source = "sbd:benchmark_RELEASE"
    config.data.train = "train"
    config.data.validation = "voc:VOCdevkit/VOC2012:val"
    config.data.canvas = (500, 500)
    config.data.workers = 8
    config.data.transforms = dict(flip={})
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "constant"
    config.optimizer.weight_decay = 5e-4
    config.optimizer.factors = (("bias$", 2.0),)
    config.init = (("^(trunk|fc6|fc7)/", VGG16),)
    config.steps = 175 * EPOCH
    config.evaluate.every = config.checkpoint.every = 10 * EPOCH
    finer = dict(steps=60 * EPOCH)
    config.stages = (
        dict(name="fcn32s", architecture=dict(name="fcn32s")),
        dict(
            name="fcn16s",
            architecture=dict(name="fcn16s"),
            init=(("^(score|upscore)_c4", "fresh"), (".*", "fcn32s")),
            optimizer=dict(learning_rate=1e-6),
            **finer,
        ),
        dict(
            name="fcn8s",
            init=(("^(score|upscore)_c3", "fresh"), (".*", "fcn16s")),
            optimizer=dict(learning_rate=1e-8),
            **finer,
        ),
    )
    return config
