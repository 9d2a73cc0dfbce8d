"""A small Fast R-CNN on the embedded scenes, from scratch, with the regions that Selective Search proposes.

python train.py --config=configs/fast_rcnn_scenes.py --workdir=runs/fast_rcnn_scenes

reaches: (not measured yet)
"""

from configs import quickstart, rcnn_scenes


def get_config():
    config = quickstart.get_config()
    config.steps = 2000
    config.architecture = dict(
        name="fast_rcnn",
        backbone="vgg11",
        depths=(1, 1, 2, 2),  # stride 8: objects have 16 to 64 pixels
        widths=(24, 48, 96, 128),
        norm="batch",
        box_features=256,
        dropout=0.1,
        box_size=5,
        samples=32,
        nms_threshold=0.5,
        detections=20,
        candidates=256,
    )
    config.data.proposals = rcnn_scenes.PROPOSALS
    config.data.test = "test"
    config.evaluate.every = 1000
    return config
