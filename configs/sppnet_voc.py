"""SPP-net on VOC 2007: one map an image, 50 bins a window, of which the dense layers are tuned.

python train.py --config=configs/sppnet_voc.py --workdir=runs/sppnet_voc

reaches: (not measured here; published for VOC 2007's test with box regression: mAP 58.0 at one scale and 59.2 at five)

--config=configs/sppnet_voc.py:multi takes each window from one of five scales. The ImageNet weights lie where train.py is
run. Departures: the convolutions are those of torchvision's AlexNet, whose last map is as ZF-5's, of stride 16 and 256 channels
(`architecture.trunk` "zf5" is the paper's, of which no weights are at hand), and the dense layers on the bins start fresh,
where the paper's come from a network that learnt ImageNet with them; so their rate is ten times the paper's.
"""

from configs import rcnn_voc

SCALES = {"single": (1.0,), "multi": tuple(side / 688 for side in (480, 576, 688, 864, 1200))}
DENSE = "^(fc6|fc7|logits)/"


def get_config(scales="single"):
    if scales not in SCALES:
        raise ValueError(f"scales {scales!r} are not one of {', '.join(SCALES)}.")
    config = rcnn_voc.get_config()
    config.steps = 300_000
    config.architecture = dict(name="sppnet", trunk="alexnet", scales=SCALES[scales], samples=32, classifier="svm")
    config.data.canvas = ((688, 928), (928, 688))
    config.optimizer.schedule = "step:250000"
    config.optimizer.factors = ()
    config.evaluate.every = config.steps
    tune, svms, boxes = rcnn_voc.stages("alexnet", "trunk")
    config.stages = ({**tune, "optimizer": dict(trainable=DENSE)}, svms, boxes)
    return config
