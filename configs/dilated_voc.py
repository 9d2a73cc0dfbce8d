"""Dilated convolutions on VOC by the paper: the front end, the context module on it, then both.

python train.py --config=configs/dilated_voc.py --workdir=runs/dilated_voc

reaches: (not measured here; the paper has mean IU 0.676 for the front end on VOC 2012's test set, and 0.735 with the large
context module where both are trained on COCO too)

The data are those of configs/fcn8s_voc.py. Batches of 14, momentum 0.9, rate 1e-3 for 60,000 steps of the front end; 1e-3
for the context module on it and 1e-5 for both, by the authors' code.

Departures: 20,000 steps each for the last two stages, which the paper does not give for VOC alone; no images of COCO; the
validation set is that of configs/fcn8s_voc.py.
"""

from configs import fcn8s_voc


def get_config():
    config = fcn8s_voc.get_config()
    config.batch_size = 14
    config.architecture = dict(name="dilated", context="large")
    config.data.canvas = (504, 504)
    config.optimizer.learning_rate = 1e-3
    config.optimizer.factors = ()
    config.steps = 60_000
    config.evaluate.every = config.checkpoint.every = 5000
    config.stages = (
        dict(name="front_end", architecture=dict(context="none")),
        dict(
            name="context",
            steps=20_000,
            init=(("^context/", "fresh"), (".*", "front_end")),
            optimizer=dict(trainable="^context/"),
        ),
        dict(name="both", steps=20_000, init=((".*", "context"),), optimizer=dict(learning_rate=1e-5)),
    )
    return config
