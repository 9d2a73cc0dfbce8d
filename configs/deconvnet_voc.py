"""DeconvNet on VOC by the paper: single objects first, then windows like proposals.

python train.py --config=configs/deconvnet_voc.py --workdir=runs/deconvnet_voc

reaches: (not measured here; the paper has mean IU 0.696 on VOC 2012's test set, over 50 proposals an image)

The data are those of configs/fcn8s_voc.py. Batches of 64, momentum 0.9, rate 0.01, a tenth of it after 9,000 of 20,000 and
10,000 of 40,000 steps; windows of 250 pixels, cropped to 224 and mirrored.

Departures: squares around objects, moved at random in the second stage where the paper takes EdgeBox's proposals; validation
is on whole images, those of configs/fcn8s_voc.py, that are fitted to 224 pixels; statistics are running ones.
"""

from configs import fcn8s_voc


def get_config():
    config = fcn8s_voc.get_config()
    config.batch_size = 64
    config.architecture = dict(name="deconvnet")
    config.data.canvas = (224, 224)
    config.data.transforms = dict(object_crop=dict(side=250), crop=dict(height=224, width=224), flip={})
    config.optimizer.learning_rate = 0.01
    config.optimizer.schedule = "step:9000"
    config.optimizer.factors = ()
    config.init = ((r"^trunk/block\d/conv\d/|^fc[67]/", "vgg16:vgg16-397923af.pth"),)
    config.steps = 20_000
    config.evaluate.every = config.checkpoint.every = 2000
    windows = dict(config.data.transforms, object_crop=dict(side=250, alone=False, jitter=0.25))
    config.stages = (
        dict(name="objects"),
        dict(
            name="proposals",
            steps=40_000,
            data=dict(transforms=windows),
            optimizer=dict(schedule="step:10000"),
            init=((".*", "objects"),),
        ),
    )
    return config
