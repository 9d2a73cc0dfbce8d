"""A small Keypoint R-CNN on the embedded people, from scratch, in ten minutes on two CPU cores.

python train.py --config=configs/keypoint_rcnn_scenes.py --workdir=runs/keypoint_rcnn_scenes

reaches: keypoint/AP 0.90 validation and test seed 0 600 s
"""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.steps = 1000
    architecture = config.architecture
    for option in ("mask_convs", "mask_sampling_ratio"):
        del architecture[option]
    architecture.name = "keypoint_rcnn"
    architecture.anchor_sizes = ((23, 32), (45, 64), (76, 90))  # persons have 40 to 100 pixels
    architecture.update(joints=14, keypoint_convs=(64, 64, 64, 64), max_positives=4)
    architecture.update(samples=16, post_nms=(32, 32), detections=5, candidates=32)
    config.data.source = "scenes/people"
    config.data.max_boxes = 2
    config.data.transforms = dict(flip={})  # they stand upright
    config.data.test = "test"
    config.evaluate.every = 1000
    return config
