"""configs/faster_rcnn_c4_scenes.py trained as first published, RPN and detector in turns, until they share their trunk.

python train.py --config=configs/faster_rcnn_alternating_scenes.py --workdir=runs/faster_rcnn_alternating_scenes

reaches: (not measured yet)

The second stage has two trunks: that of the first, which stays as it is and proposes regions, and its own, which learns from
them. In the last two the trunk stays as it is: the RPN learns anew on it, and then the head goes on with its proposals.
Nothing is written down between stages, proposals are made again from the same weights. The authors start each of the first
two from ImageNet's weights, here both are from scratch.
"""

from configs import faster_rcnn_c4_scenes


def get_config():
    config = faster_rcnn_c4_scenes.get_config()
    config.steps = 1300
    config.evaluate.every = 1300
    half = dict(steps=650, evaluate=dict(every=650))
    proposals = dict(evaluate=dict(half["evaluate"], metric="loss"))  # the head has not learned, or not from these
    config.stages = (
        dict(name="rpn", architecture=dict(learn=("rpn",)), evaluate=dict(metric="loss")),
        dict(
            name="detector",
            architecture=dict(learn=("roi",), own_rpn_trunk=True),
            init=(("^rpn_trunk/", "rpn", "trunk/"), ("^rpn/", "rpn")),
            optimizer=dict(trainable="^(trunk|stage|box_head)/"),
        ),
        dict(
            half | proposals,
            name="shared_rpn",
            architecture=dict(learn=("rpn",), norm="frozen"),
            init=(("^rpn/", "fresh"), (".*", "detector")),
            optimizer=dict(trainable="^rpn/"),
        ),
        dict(
            half,
            name="shared_detector",
            architecture=dict(learn=("roi",), norm="frozen"),
            init=((".*", "shared_rpn"),),
            optimizer=dict(trainable="^(stage|box_head)/"),
        ),
    )
    return config
