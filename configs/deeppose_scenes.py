"""configs/pose_scenes.py and a second stage behind it, which looks at a square around each joint, as DeepPose has it.

python train.py --config=configs/deeppose_scenes.py --workdir=runs/deeppose_scenes

reaches: (not measured yet)

Between the two trainings the first stage's errors are measured on the training images: the second learns from joints that
are displaced like that.
"""

from configs import pose_scenes


def get_config():
    config = pose_scenes.get_config()
    config.architecture.update(side=64, sigma=2.0, samples=4)
    config.stages = (
        dict(name="first", steps=1400, data=dict(test=""), evaluate=dict(every=1400)),
        dict(
            name="errors",
            fit="fit_errors",
            architecture=dict(stages=2),
            init=(("^(stage2/|errors2)", "fresh"), (".*", "first")),
            data=dict(test=""),
        ),
        dict(
            name="second",
            architecture=dict(stages=2),
            init=((".*", "errors"),),
            optimizer=dict(trainable="^stage2/"),
            steps=700,
            evaluate=dict(every=700),
        ),
    )
    return config
