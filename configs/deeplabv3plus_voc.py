"""DeepLabv3+ on VOC by the paper; --config=configs/deeplabv3plus_voc.py:xception65 is its larger trunk.

python train.py --config=configs/deeplabv3plus_voc.py --workdir=runs/deeplabv3plus_voc

reaches: (not measured here; the paper has mean IU 0.7885 on validation for resnet101 and 0.7979 for xception65, with separable
convolutions in ASPP and decoder too, at output stride 16)

The data are those of configs/fcn8s_voc.py; the ImageNet weights of resnet101 lie where train.py is run, and Xception begins
from scratch: its weights are the authors' and in no file that is read here. Crops of 513 pixels, scales 0.5 to 2 in steps of
0.25, batches of 16, rate 0.007 with a power of 0.9 for 30,000 steps, decay 1e-4, for Xception 4e-5.

Departures: SBD's training set, not the 10,582 images of both sets together, which a list of your own names; depthwise kernels
decay too; running statistics keep 0.9 of themselves; Xception's eps of 1e-3 is ASPP's and the decoder's too; validation images,
of which SBD's training set holds a part, are fitted to 513 pixels; the second stage at rate 1e-4 with frozen norms is yours to add.
"""

from configs import fcn8s_voc

INIT = {"resnet101": (("^trunk/", "resnet101:resnet101-63fe2227.pth"),), "xception65": ()}


def get_config(backbone="resnet101"):
    if backbone not in INIT:
        raise ValueError(f"backbone {backbone!r} is not one of {', '.join(INIT)}.")
    xception = backbone == "xception65"
    config = fcn8s_voc.get_config()
    config.steps = 30_000
    config.batch_size = 16
    config.architecture = dict(
        name="deeplabv3plus", backbone=backbone, separable=xception, norm="batch:1e-3" if xception else "batch"
    )
    config.data.canvas = (513, 513)
    config.data.workers = 16
    config.data.transforms = dict(random_scale={}, crop=dict(height=513, width=513), flip={})
    config.optimizer.learning_rate = 0.007
    config.optimizer.schedule = "poly:0.9"
    config.optimizer.weight_decay = 4e-5 if xception else 1e-4
    config.optimizer.factors = ()
    config.init = INIT[backbone]
    config.stages = ()
    config.evaluate.every = config.checkpoint.every = 3000
    return config
