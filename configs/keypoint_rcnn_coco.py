"""Keypoint R-CNN R50-FPN on COCO's persons as torchvision trains it: 46 epochs, eight devices of two images.

python train.py --config=configs/keypoint_rcnn_coco.py --workdir=runs/keypoint_rcnn_coco

reaches: (not measured here; torchvision publishes box/AP 0.546 keypoint/AP 0.650 on val2017)

What is not said here is as in configs/faster_rcnn_coco.py. torchvision draws the shorter side from 640 to 800; here scale
jitter does it. It trains on the images that show at least ten joints, some 57,000, which its epochs count and so do
these; here all images of the annotations are drawn from: leave those without persons out of the json.
"""

from configs import faster_rcnn_coco

IMAGES = 57_000  # with joints


def get_config():
    config = faster_rcnn_coco.get_config()
    epoch = IMAGES // config.batch_size
    config.steps = 46 * epoch
    config.architecture.update(name="keypoint_rcnn", joints=17)
    config.data.train = "annotations/person_keypoints_train2017.json:train2017"
    config.data.validation = "annotations/person_keypoints_val2017.json:val2017"
    config.data.transforms.scale_jitter = dict(low=0.8, high=1.0)
    config.optimizer.schedule = f"step:{36 * epoch},{43 * epoch}"
    config.evaluate.every = epoch
    config.checkpoint.every = epoch
    return config
