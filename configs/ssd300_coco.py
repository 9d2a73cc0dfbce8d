"""SSD300 on COCO as torchvision trains it.

python train.py --config=configs/ssd300_coco.py --workdir=runs/ssd300_coco

reaches: (not measured here; torchvision publishes box/AP 0.251, AP50 0.415 on val2017)

`config.data.dir` is the folder of annotations/, train2017/ and val2017/; the trunk's weights, Caffe's as published with SSD,
lie where train.py is run. Published for eight devices of four images each, in torchvision's references/detection, where
biases decay too.
"""

from jaxvision import config as configs

EPOCH = 3664  # batches of 32: 117,266 images have objects


def get_config():
    config = configs.default()
    config.steps = 120 * EPOCH
    config.batch_size = 32
    config.architecture = dict(name="ssd")
    config.data.source = "coco"
    config.data.train = "annotations/instances_train2017.json:train2017"
    config.data.validation = "annotations/instances_val2017.json:val2017"
    config.data.canvas = (300, 300)
    config.data.stretch = True
    config.data.workers = 16
    config.data.transforms = dict(photometric_distort={}, zoom_out={}, iou_crop={}, flip={})
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.002
    config.optimizer.schedule = f"step:{80 * EPOCH},{110 * EPOCH}"
    config.optimizer.warmup = 1000
    config.optimizer.weight_decay = 5e-4
    config.optimizer.trainable = "^(?!trunk/block1/)"
    config.init = (("^trunk/block", "vgg16:vgg16_features-amdegroot-88682ab5.pth"),)
    config.evaluate.every = EPOCH
    config.checkpoint.every = EPOCH
    return config
