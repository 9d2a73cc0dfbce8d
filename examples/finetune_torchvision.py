"""A detector of one's own from torchvision's weights: a new head on the loaded network.

python examples/finetune_torchvision.py maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth

Without a file it shows the way with a narrow network of random weights. The data are the embedded scenes; for others, see
open_source.
"""

import functools
import re
import sys

import jax
import numpy as np
import optax

import jaxvision
from jaxvision import tasks
from jaxvision.batch import split_host
from jaxvision.data.loader import Batches, load
from jaxvision.data.sources import open_source
from jaxvision.interop.convert import BLANK
from jaxvision.interop.torchvision import builder_of
from jaxvision.train.optimizer import map_paths
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

NAME, SIDE, STEPS = "maskrcnn_resnet50_fpn", 128, 40
options = dict(min_size=SIDE, max_size=SIDE, samples=64, pre_nms=(200, 100), post_nms=(100, 50))
if len(sys.argv) > 1:
    weights = sys.argv[1]
else:
    narrow = dict(widths=(8, 8, 12, 12), depths=(1,) * 4, stem_width=8, fpn=16, box_features=32, mask_convs=(8,) * 4)
    options |= narrow
    weights = jaxvision.to_torchvision(NAME, builder_of(NAME).create(**narrow).init(jax.random.key(1), BLANK))

source = open_source("scenes/shapes", "train[:32]")
classes = len(source.class_names)  # another number than the file's: the head is new
architecture, variables = jaxvision.load_torchvision(NAME, weights, num_classes=classes, **options)


def kind(path, _):
    """As torchvision does: the stem, the first stage and all normalisation of the trunk stay as they are."""
    return "frozen" if re.search(r"^trunk/(stem|c2_|.*norm)", path) else "trained"


rate = optax.warmup_constant_schedule(0, 0.02, 10)
optimizer = optax.partition(
    {
        "trained": optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(rate, momentum=0.9)),
        "frozen": optax.set_to_zero(),
    },
    functools.partial(map_paths, kind),
)
state = TrainState.create(variables, optimizer)
step = jax.jit(functools.partial(train_step, architecture=architecture, optimizer=optimizer))
fields = tasks.get(architecture.task).fields
batches = Batches(source, batch_size=4, fields=fields, canvases=[(SIDE, SIDE)], seed=0, max_boxes=20)
for t, batch in enumerate(load(batches, stop=STEPS), 1):
    state, metrics = step(state, split_host(batch)[0])
    print(f"step {t}: loss {metrics['loss']:.3f}")

predictor = jaxvision.Predictor(architecture, state.variables(), class_names=source.class_names, canvas=(SIDE, SIDE))
[result] = predictor([source[0]["image"]])
print({name: np.shape(value) for name, value in result.items()})
np.savez("finetuned.npz", **jaxvision.to_torchvision(NAME, state.variables()))  # arrays that torch.from_numpy takes
