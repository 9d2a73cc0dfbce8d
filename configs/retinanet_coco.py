"""RetinaNet R50-FPN on COCO as torchvision trains it; --config=configs/retinanet_coco.py:v2 is its second version.

python train.py --config=configs/retinanet_coco.py --workdir=runs/retinanet_coco

reaches: (not measured here; torchvision publishes box/AP 0.364 for v1 and 0.415 for v2 on val2017)

`config.data.dir` is the folder of annotations/, train2017/ and val2017/; the ImageNet weights lie where train.py is run.
Published for eight devices of two images each: v1 in torchvision's references/detection, v2 in
https://github.com/pytorch/vision/pull/5756. There v2 draws the shorter side from 480 to 800; here large-scale jitter does it.
"""

from jaxvision import config as configs

EPOCH = 7330  # batches of 16: 117,266 images have objects


def get_config(version="v1"):
    if version not in ("v1", "v2"):
        raise ValueError(f"version {version!r} is not v1 or v2.")
    config = configs.default()
    config.steps = 26 * EPOCH
    config.batch_size = 16
    config.architecture = dict(name="retinanet", backbone="resnet50_fpn")
    config.data.source = "coco"
    config.data.train = "annotations/instances_train2017.json:train2017"
    config.data.validation = "annotations/instances_val2017.json:val2017"
    config.data.canvas = ((800, 1088), (800, 1344), (1088, 800), (1344, 800))
    config.data.workers = 16
    config.data.transforms = dict(flip={})
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    config.optimizer.schedule = f"step:{16 * EPOCH},{22 * EPOCH}"
    config.optimizer.warmup = 1000
    config.optimizer.weight_decay = 1e-4
    config.optimizer.trainable = r"^(?!trunk)|^trunk/c[345]_block\d+/(conv\d|shortcut)/"  # no frozen norms either
    config.init = (("^trunk/", "resnet50:resnet50-0676ba61.pth"),)
    config.evaluate.every = EPOCH
    config.checkpoint.every = EPOCH
    if version == "v2":
        config.architecture.update(norm="batch", extra="c5", head_norm="group", box_loss="giou")
        config.data.transforms.scale_jitter = dict(low=0.6, high=1.0)
        config.optimizer.name = "adamw"
        config.optimizer.learning_rate = 1e-4
        config.optimizer.weight_decay = 0.05
        config.optimizer.trainable = "^(?!trunk)|^trunk/c[345]_"
        config.init = (("^trunk/", "resnet50:resnet50-11ad3fa6.pth"),)
    return config
