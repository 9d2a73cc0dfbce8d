"""Chooses alpha, the weight of the box's loss beside the class's, by what is wanted: class and box right (loc/top1).

python examples/choose_alpha.py [STEPS]

The summed loss cannot choose: it falls with alpha, whatever the network learns. Each alpha trains from the same start on the
same batches of the embedded scenes of one object, and is scored on others.
"""

import functools
import sys

import jax
import optax

import jaxvision
from jaxvision import tasks
from jaxvision.batch import split_host
from jaxvision.data.loader import Batches, load
from jaxvision.data.sources import label_names, open_source
from jaxvision.train.evaluate import evaluate, make_eval_step
from jaxvision.train.sharding import make_mesh
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

ALPHAS = (0.1, 1.0, 10.0, 100.0)
STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 600
backbone = dict(
    name="resnet", trunk_name="resnet18", depths=(1,) * 4, widths=(16, 32, 48, 64), stem="stride", stem_width=16
)

task, source = tasks.get("localization"), open_source("scenes/single", "train")
form = dict(batch_size=16, fields=task.fields, canvases=[(64, 64)], max_boxes=1, check=task.check)
batches = Batches(source, seed=0, transforms_config={"flip": {}, "quarter_turn": {}}, **form)
unseen = Batches(open_source("scenes/single", "validation"), **form)
architecture = jaxvision.create(
    "classification_localization",
    num_classes=len(label_names(source)),
    backbone=backbone,
    per_class=False,
    loss="smooth_l1",
    cells=2,
    fc=(128,),
    dropout=0.0,
)
optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, STEPS))


@functools.partial(jax.jit, donate_argnums=0)
def step(state, batch, alpha):
    """One compilation for all alphas: the weight is an argument like another."""
    return train_step(state, batch, architecture=architecture.with_weights({"box": alpha}), optimizer=optimizer)


eval_step, mesh, found = make_eval_step(architecture), make_mesh(), {}
for alpha in ALPHAS:
    state = TrainState.create(architecture.init(jax.random.key(0), split_host(batches[0])[0]), optimizer)
    for batch in load(batches, stop=STEPS):
        state, metrics = step(state, split_host(batch)[0], alpha)
    scores, _ = evaluate(eval_step, state.variables(), architecture, unseen, mesh)
    found[alpha] = scores["loc/top1"]
    print(
        f"alpha {alpha:g}: loss {metrics['loss']:.4f}, top1 {scores['top1']:.4f}, loc/gt_known {scores['loc/gt_known']:.4f}, "
        f"loc/top1 {scores['loc/top1']:.4f}",
        flush=True,
    )
best = max(found, key=found.get)
print(f"best by loc/top1: alpha {best:g}, --config.losses.box={best:g}")
