"""What a linear classifier reads off each layer of a network: a probe for every map of a run, or of a network that has not
learned anything, which is the bar to be cleared.

python examples/linear_probe.py [DIRECTORY OF A RUN]
"""

import sys

import jax
import numpy as np

import jaxvision
from jaxvision.batch import blank, split_host
from jaxvision.data.loader import Batches, load
from jaxvision.data.sources import open_source
from jaxvision.explain.probe import linear_probe, mean_features

CANVAS = (64, 64)
LAYERS = ("c1", "c2", "c3", "c4", "c5")

if len(sys.argv) > 1:
    _, architecture, variables, _ = jaxvision.load_run(sys.argv[1])
else:
    architecture = jaxvision.create(
        "resnet", num_classes=6, trunk_name="resnet18", depths=(1,) * 4, widths=(16, 24, 32, 48), stem="stride"
    )
    variables = architecture.init(jax.random.key(0), blank((), CANVAS))

features, labels = {}, {}
for split in ("train[:25%]", "validation[:40%]"):
    source = open_source("scenes/single", split)
    batches = Batches(source, batch_size=8, fields=("label",), canvases=[CANVAS])
    rows = [split_host(batch)[0] for batch in load(batches)]
    labels[split] = np.concatenate([batch["label"][batch["real"]] for batch in rows])
    for layer in LAYERS:
        maps = [jaxvision.features(architecture, variables, batch, layer)[batch["real"]] for batch in rows]
        features[split, layer] = mean_features(np.concatenate(maps))

train, validation = labels
for layer in LAYERS:
    probe = linear_probe(features[train, layer], labels[train])
    accuracy = probe.score(features[validation, layer], labels[validation])
    print(f"{layer}: {features[train, layer].shape[1]} channels, accuracy {accuracy:.3f}")
