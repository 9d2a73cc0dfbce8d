"""DeepPose's cascade of three stages on Leeds Sports Pose and its extension, at the paper's size.

python train.py --config=configs/deeppose_lsp.py --workdir=runs/deeppose_lsp

reaches: (not measured here)

Both sets lie below data.dir as they are handed out, in lsp_dataset and lspet_dataset. Departures: RGB by ImageNet's mean and
deviation, torchvision's AlexNet, Adam in place of Adagrad; windows that move by a tenth of the picture stand for the
translations of the paper.
"""

from jaxvision import config as configs


def get_config():
    config = configs.default()
    config.steps = 100_000
    config.batch_size = 128
    config.architecture = dict(
        name="pose", joints=14, backbone="alexnet", side=220, sigma=2.0, dropout=0.6, samples=1, loss="l2"
    )
    config.data.source = "lsp"
    config.data.train = "lsp_dataset/train+lspet_dataset/train"
    config.data.validation = "lsp_dataset/test"
    config.data.canvas = (220, 220)
    config.data.stretch = True
    config.data.max_boxes = 1
    config.data.workers = 16
    config.data.transforms = dict(window_jitter=dict(amount=0.1), flip={})
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup = 1000
    config.evaluate.every = 5000
    config.evaluate.metric = "pcp"
    config.checkpoint.every = 5000
    config.stages = cascade(3)
    return config


def cascade(stages):
    """The first stage, and before each further one the errors of those before it."""
    plan = [dict(name="stage1")]
    for number in range(2, stages + 1):
        size, new = dict(stages=number), f"^(stage{number}/|errors{number})"
        plan += [
            dict(
                name=f"errors{number}",
                fit="fit_errors",
                architecture=size,
                init=((new, "fresh"), (".*", f"stage{number - 1}")),
            ),
            dict(
                name=f"stage{number}",
                architecture=size,
                init=((".*", f"errors{number}"),),
                optimizer=dict(trainable=f"^stage{number}/"),
            ),
        ]
    return tuple(plan)
