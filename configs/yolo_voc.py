"""YOLO on PASCAL VOC 2007 as published; `--config.architecture.form=fast_yolo` is Fast YOLO.

python train.py --config=configs/yolo_voc.py --workdir=runs/yolo_voc

reaches: (not measured here; the paper has 63.4 mAP on VOC 2007's test set, Fast YOLO 52.7, trained on 2007 and 2012 together)

The paper trains on the 16,551 trainval pictures of 2007 and 2012 for 135 epochs; to have both, name a source that holds
them and set IMAGES. Its first 20 convolutions come from a classifier of ImageNet: train `darknet`, and name its run by
`config.init` as that architecture's docstring has it. The warm-up is from a thousandth of the rate, the paper's from a tenth.
"""

from jaxvision import config as configs

SOURCE, TRAIN, VALIDATION, IMAGES = "tfds:voc/2007", "train+validation", "test", 5011
BATCH = 64


def get_config():
    epochs = IMAGES / BATCH
    config = configs.default()
    config.steps = round(135 * epochs)
    config.batch_size = BATCH
    config.architecture = dict(name="yolo")
    # The rates were found with Darknet, whose gradient is half of that of the paper's formula, (t - o) for (t - o)^2.
    config.losses = {"coordinates": 2.5, "object": 0.5, "no_object": 0.25, "class": 0.5}
    config.data.source = SOURCE
    config.data.train = TRAIN
    config.data.validation = VALIDATION
    config.data.canvas = (448, 448)
    config.data.stretch = True
    config.data.workers = 16
    config.data.transforms = dict(
        window_jitter=dict(amount=0.2), flip={}, hsv_jitter=dict(saturation=1.5, exposure=1.5)
    )
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = f"step:{round(75 * epochs)},{round(105 * epochs)}"
    config.optimizer.warmup = 600  # as in Darknet's file
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.evaluate.every = round(5 * epochs)
    config.checkpoint.every = round(5 * epochs)
    return config
