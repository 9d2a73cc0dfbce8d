"""DeepLabv3 for VOC's classes as torchvision trains it; --config=configs/deeplabv3_voc.py:BACKBONE is another trunk's.

python train.py --config=configs/deeplabv3_voc.py --workdir=runs/deeplabv3_voc

reaches: (not measured here; torchvision publishes mean IU 0.664 and pixel accuracy 0.924 for resnet50, 0.674 and 0.924 for
resnet101, 0.603 and 0.912 for mobilenet_v3_large, on COCO's val2017 with VOC's labels)

Data, schedule and departures are those of configs/fcn_voc.py.
"""

from configs import fcn_voc

MOBILE = "mobilenet_v3_large"


def get_config(backbone="resnet50"):
    config = fcn_voc.get_config("resnet50" if backbone == MOBILE else backbone)
    config.architecture.update(name="deeplabv3", backbone=backbone)
    if backbone == MOBILE:
        config.optimizer.learning_rate = 0.01
        config.optimizer.weight_decay = 1e-6
        config.init = (("^trunk/", f"{MOBILE}:mobilenet_v3_large-8738ca79.pth"),)
    return config
