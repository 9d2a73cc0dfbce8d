"""A segmenter that learns from image-level labels alone, on the embedded scenes, from scratch.

python train.py --config=configs/weakly_supervised_scenes.py --workdir=runs/weakly_supervised_scenes

reaches: (not measured yet)

A classifier learns from scenes of one object, then from those of several ("simple to complex", Wei et al., TPAMI 2017), what
it looks at becomes semantic maps of the training images, and a narrow DeepLabv3 learns from these. Words behind the file's
name, as configs/weakly_supervised_scenes.py:gradcam,nocrf, choose the seeds, cam, acol or gradcam, and whether a dense CRF
refines them, crf or nocrf; by default cam,crf. sec: the segmenter learns from certain seeds by SEC's three losses. masks: the
same segmenter learns from the true masks.
"""

from configs import deeplabv3_scenes

FIT = "jaxvision.models.weak.pseudo_labels:fit_pseudo_labels"
TRUNK = dict(  # 16 x 16 cells
    name="vgg", depths=(1, 1, 2, 2), widths=(16, 32, 64, 128), norm="batch", last_pool=False
)
MAPS = dict(backbone=TRUNK, layer="c4", norm="batch", multi_label=True)
CLASSIFIERS = {
    "cam": dict(name="cam", convs=(128,), dropout=0.0, **MAPS),
    "acol": dict(name="acol", width=96, **MAPS),
    "gradcam": dict(  # of dense layers behind 16 x 16 cells, as of any classifier
        name="vgg", depths=(1, 2, 4), widths=(16, 32, 96), fc=256, norm="batch", dropout=0.1, multi_label=True
    ),
}
SEEDS = {"cam": dict(), "acol": dict(), "gradcam": dict(seeds="gradcam", layer="c3")}
CRF = dict(  # in pixels of 128
    bilateral_weight=5.0, bilateral_xy=15.0, bilateral_rgb=20.0, gaussian_weight=1.0, gaussian_xy=1.5, iterations=5
)
# SEC's 0.996 and 0.999 are for 41 x 41 cells.
SEC = dict(cells=16, foreground=0.996 ** (41 / 16) ** 2, background=0.999 ** (41 / 16) ** 2, crf=CRF)
WORDS = {*CLASSIFIERS, "crf", "nocrf", "sec", "masks"}


def get_config(words="cam,crf"):
    chosen = words.split(",")
    if unknown := set(chosen) - WORDS:
        raise ValueError(f"There is no {unknown.pop()!r} to choose; there are {', '.join(sorted(WORDS))}.")
    config = deeplabv3_scenes.get_config()
    config.steps = 2000
    config.evaluate.every = 2000
    if "masks" in chosen:
        return config
    seeds = next((word for word in chosen if word in CLASSIFIERS), "cam")
    config.data.weak = dict(inexact=dict(level="image"))
    settings = dict(SEEDS[seeds], threshold=0.35)
    if "sec" in chosen:
        settings |= dict(certain=0.6)  # what is not certain is no seed, and the CRF is in the loss
        config.architecture.loss = dict(sec=SEC)
    elif "nocrf" not in chosen:
        settings |= dict(crf=CRF, threshold=0.25)
    config.stages = stages(CLASSIFIERS[seeds], settings)
    return config


def stages(classifier, settings):
    """Simple images, complex ones, their pseudo labels, and the segmenter."""

    return (
        dict(
            name="simple",
            architecture={**classifier, "multi_label": False},
            data=dict(source="scenes/single", test=""),
            steps=1200,
            batch_size=32,
            evaluate=dict(every=1200),
        ),
        dict(
            name="classify",
            architecture=classifier,
            data=dict(test=""),
            init=((".*", "simple"),),
            steps=500,
            evaluate=dict(every=500),
            optimizer=dict(learning_rate=1e-3, ema=0.99),
        ),
        dict(
            name="labels",
            fit=FIT,
            settings=settings,
            architecture=classifier,
            data=dict(test=""),
            init=((".*", "classify"),),
        ),
        dict(name="segment", data=dict(pseudo_labels="labels")),
    )
