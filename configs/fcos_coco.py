"""FCOS R50-FPN on COCO as torchvision trains it: references/detection, SGD at 0.01, eight devices of two images.

python train.py --config=configs/fcos_coco.py --workdir=runs/fcos_coco

reaches: (not measured here; torchvision publishes box/AP 0.392 on val2017)

`config.data.dir` is the folder of annotations/, train2017/ and val2017/; the ImageNet weights lie where train.py is run.
"""

from configs import retinanet_coco


def get_config():
    config = retinanet_coco.get_config()
    config.architecture.name = "fcos"
    return config
