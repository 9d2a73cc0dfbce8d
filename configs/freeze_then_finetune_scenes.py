"""configs/classification_localization_scenes.py in three trainings: the trunk as a classifier, the heads on it, then everything.

python train.py --config=configs/freeze_then_finetune_scenes.py --workdir=runs/freeze_then_finetune_scenes

reaches: (not measured yet)

While the heads learn the trunk stays as it is, its running statistics too.
"""

from configs import classification_localization_scenes


def get_config():
    config = classification_localization_scenes.get_config()
    trunk = classification_localization_scenes.TRUNK
    config.stages = (
        dict(name="classify", architecture=trunk, losses={}, steps=1000, data=dict(test=""), evaluate=dict(every=1000)),
        dict(
            name="heads",
            architecture=dict(norm="frozen"),
            init=(("^trunk/", "classify"),),
            optimizer=dict(trainable="^(?!trunk/)"),
            steps=500,
            data=dict(test=""),
            evaluate=dict(every=500),
        ),
        dict(
            name="all",
            init=((".*", "heads"),),
            optimizer=dict(learning_rate=1e-3),
            steps=900,
            evaluate=dict(every=900),
        ),
    )
    return config
