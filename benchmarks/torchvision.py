"""This library beside torchvision: milliseconds, images/s, peak memory and their ratio.

python benchmarks/torchvision.py [--torch-python=/usr/bin/python3] [--rows=PATTERN] [--repeats=5] [--bfloat16] [--compile]

A row is measured by two processes that take turns, so that a machine which changes its speed meanwhile changes both;
`--torch-python` is an interpreter that has torchvision, where this one has not. Both have the same weights, random ones,
and the same pictures. `forward` is everything from a picture on its canvas to detections or logits, `predict` from a
picture of 480 x 640 to its pixels again, `train` a step of SGD with momentum; detectors train with frozen normalisation.
--bfloat16: trunks here, autocast there. --compile: torch.compile on the other side.
"""

import argparse
import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.pop(0)  # this folder, whose torchvision.py would be imported for the library of that name

import numpy as np

# name: (canvas of `forward` and `train`, images)
MODELS = {
    "alexnet": ((224, 224), 8),
    "vgg16": ((224, 224), 4),
    "googlenet": ((224, 224), 8),
    "squeezenet1_1": ((224, 224), 8),
    "resnet18": ((224, 224), 8),
    "resnet50": ((224, 224), 8),
    "mobilenet_v3_large": ((224, 224), 8),
    "fcn_resnet50": ((520, 520), 1),
    "deeplabv3_resnet50": ((520, 520), 1),
    "lraspp_mobilenet_v3_large": ((520, 520), 1),
    "fasterrcnn_resnet50_fpn": ((800, 1088), 1),
    "maskrcnn_resnet50_fpn": ((800, 1088), 1),
    "keypointrcnn_resnet50_fpn": ((800, 1088), 1),
    "retinanet_resnet50_fpn": ((800, 1088), 1),
    "fcos_resnet50_fpn": ((800, 1088), 1),
    "ssd300_vgg16": ((300, 300), 1),
    "ssdlite320_mobilenet_v3_large": ((320, 320), 1),
}
CLASSIFIERS = tuple(MODELS)[:7]
SEGMENTERS = tuple(MODELS)[7:10]
OPS = ("roi_align", "roi_align gradient", "nms", "matching")
ROWS = [*(f"{name} {what}" for name in MODELS for what in ("forward", "train", "predict")), *OPS]
OBJECTS = 5
DRAW = np.random.RandomState  # the same stream in every version of numpy


def pictures(size, count):
    return DRAW(0).random_sample((count, *size, 3)).astype(np.float32)


def objects(name, size):
    """Ground truth of one picture: boxes, classes, masks, keypoints."""
    draw, (height, width) = DRAW(1), size
    corner = draw.random_sample((OBJECTS, 2)) * 0.6
    side = 0.1 + 0.3 * draw.random_sample((OBJECTS, 2))
    boxes = (np.concatenate([corner, corner + side], 1) * [width, height, width, height]).astype(np.float32)
    classes = np.ones(OBJECTS, np.int64) if "keypoint" in name else draw.randint(1, 91, OBJECTS)
    y, x = np.mgrid[:height, :width]
    masks = np.stack([(x >= b[0]) & (x < b[2]) & (y >= b[1]) & (y < b[3]) for b in boxes]).astype(np.uint8)
    places = boxes[:, None, :2] + draw.random_sample((OBJECTS, 17, 2)) * (boxes[:, 2:] - boxes[:, :2])[:, None]
    keypoints = np.concatenate([places, np.full((OBJECTS, 17, 1), 2)], 2).astype(np.float32)
    return {"boxes": boxes, "classes": classes, "masks": masks, "keypoints": keypoints}


def op_inputs():
    """A map of an 800 x 1088 picture at stride 4, 512 RoIs on it, 2000 scored boxes, 100 objects and 20000 anchors."""
    draw = DRAW(2)

    def boxes(count):
        corner = draw.random_sample((count, 2)) * [900, 700]
        return np.concatenate([corner, corner + 8 + draw.random_sample((count, 2)) * 150], 1).astype(np.float32)

    feature = draw.standard_normal((200, 272, 256)).astype(np.float32)
    scores = draw.permutation(2000).astype(np.float32) / 2000
    return {"feature": feature, "rois": boxes(512), "boxes": boxes(2000), "scores": scores} | {
        "truth": boxes(100),
        "anchors": boxes(20000),
    }


# Torchvision's side


def theirs(row, weights, options):
    """A function that runs the row once."""
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def done():
        if device == "cuda":
            torch.cuda.synchronize()

    if row in OPS:
        run = functools.partial(_their_op(row, torch, torchvision, device))
    else:
        name, what = row.split()
        run = _their_model(name, what, weights, options, torch, torchvision, device)

    def call():
        run()
        done()

    return call


def _their_op(row, torch, torchvision, device):
    from torchvision.models.detection._utils import Matcher

    x = {name: torch.from_numpy(value).to(device) for name, value in op_inputs().items()}
    feature = x["feature"].permute(2, 0, 1)[None].contiguous().requires_grad_("gradient" in row)
    if row == "nms":
        return lambda: torchvision.ops.nms(x["boxes"], x["scores"], 0.5)
    if row == "matching":
        matcher = Matcher(0.7, 0.3, True)
        return lambda: matcher(torchvision.ops.box_iou(x["truth"], x["anchors"]))

    def align():
        pooled = torchvision.ops.roi_align(feature, [x["rois"]], 7, 0.25, 2, False)
        if "gradient" in row:
            feature.grad = None
            pooled.square().sum().backward()

    return align


def _their_model(name, what, weights, options, torch, torchvision, device):
    family = torchvision.models
    family = family.segmentation if name in SEGMENTERS else family if name in CLASSIFIERS else family.detection
    size, count = MODELS[name]
    extra = {"init_weights": False} if name == "googlenet" else {"aux_loss": True} if name in SEGMENTERS[:2] else {}
    if name not in CLASSIFIERS:
        extra["weights_backbone"] = None
    model = getattr(family, name)(weights=None, **extra)
    state = {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(weights).items()}
    model.load_state_dict(state, strict=False)
    model = model.to(device).eval()
    if hasattr(model, "transform") and what != "predict" and "ssd" not in name:
        model.transform.min_size, model.transform.max_size = (size[0],), size[1]  # the picture is on its canvas
    low = torch.autocast(device, torch.bfloat16) if options.bfloat16 else contextlib.nullcontext()
    network = torch.compile(model) if options.compile else model
    images = [torch.from_numpy(p).permute(2, 0, 1).contiguous().to(device) for p in pictures(size, count)]
    batch = torch.stack(images) if name in CLASSIFIERS + SEGMENTERS else images
    if what == "predict":
        picture = torch.from_numpy((pictures((480, 640), 1)[0] * 255).astype(np.uint8)).permute(2, 0, 1)
        return functools.partial(_their_prediction, name, network, picture, low, torch, torchvision, device)
    if what == "forward":

        def forward():
            with torch.no_grad(), low:
                network(batch)

        return forward

    optimizer = torch.optim.SGD(model.parameters(), 1e-4, 0.9)
    model.train()
    if name not in CLASSIFIERS + SEGMENTERS:
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    if name in CLASSIFIERS:
        label = torch.arange(count, device=device)
    elif name in SEGMENTERS:
        label = torch.from_numpy(DRAW(1).randint(0, 21, (count, *size))).to(device)
    else:
        truth = {k: torch.from_numpy(v).to(device) for k, v in objects(name, size).items()}
        truth["labels"] = truth.pop("classes")

    def train():
        with low:
            if name in CLASSIFIERS + SEGMENTERS:
                found = network(batch)
                found = found if isinstance(found, tuple | dict) else (found,)
                maps = found.values() if isinstance(found, dict) else found
                loss = sum(torch.nn.functional.cross_entropy(m, label) for m in maps if m is not None)
            else:
                loss = sum(network(batch, [truth] * count).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return train


def _their_prediction(name, network, picture, low, torch, torchvision, device):
    transform = torchvision.transforms.functional
    with torch.no_grad(), low:
        if name in CLASSIFIERS:
            small = transform.center_crop(transform.resize(picture, 256, antialias=True), 224)
        elif name in SEGMENTERS:
            small = transform.resize(picture, 520, antialias=True)
        else:
            found = network([(picture.to(device) / 255)])[0]
            return {key: value.cpu().numpy() for key, value in found.items()}
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        found = network(transform.normalize(small.to(device) / 255, mean, std)[None])
        if name in CLASSIFIERS:
            return found.softmax(1).cpu().numpy()
        whole = torch.nn.functional.interpolate(found["out"], picture.shape[1:], mode="bilinear")
        return whole.argmax(1).cpu().numpy()


# This library's side


def ours(row, weights, options):
    """A function that runs the row once."""
    import jax

    if row in OPS:
        run, arguments = _our_op(row)
        return lambda: jax.block_until_ready(run(*arguments))
    return _our_model(*row.split(), weights, options)


def _our_op(row):
    import jax
    import jax.numpy as jnp

    from jaxvision.ops.boxes import iou
    from jaxvision.ops.matching import match
    from jaxvision.ops.nms import nms
    from jaxvision.ops.roi import roi_align

    x = jax.device_put(op_inputs())
    if row == "nms":
        return jax.jit(lambda b, s: nms(b, s, 0.5)), (x["boxes"], x["scores"])
    if row == "matching":
        valid = jnp.ones(len(x["truth"]), bool)
        return jax.jit(lambda a, b: match(iou(a, b), valid, 0.7, 0.3, low_quality=True)), (x["truth"], x["anchors"])

    def align(feature, rois):
        return roi_align(feature, rois, 7, 0.25, 2, aligned=False)

    if "gradient" in row:
        return jax.jit(jax.grad(lambda f, r: jnp.square(align(f, r)).sum())), (x["feature"], x["rois"])
    return jax.jit(align), (x["feature"], x["rois"])


def _our_model(name, what, weights, options):
    import jax

    import jaxvision
    from jaxvision import config as configs
    from jaxvision import tasks
    from jaxvision.batch import split_host
    from jaxvision.data import collate
    from jaxvision.train.memory import keep_memory
    from jaxvision.train.optimizer import make_optimizer
    from jaxvision.train.state import TrainState
    from jaxvision.train.step import train_step

    keep_memory()
    dtype = {"dtype": "bfloat16"} if options.bfloat16 else {}
    architecture, variables = jaxvision.load_torchvision(name, dict(np.load(weights)), **dtype)
    size, count = MODELS[name]
    if what == "predict":
        predictor = jaxvision.Predictor(architecture, variables)
        picture = (pictures((480, 640), 1)[0] * 255).astype(np.uint8)
        return lambda: predictor([picture])
    variables = jax.device_put(variables)
    example = {"image_size": size, "original_size": size, "image_id": 0, "label": 0}
    example |= {"area": np.ones(OBJECTS), **objects(name, size), "semantic": DRAW(1).randint(0, 21, size)}
    fields = tasks.get(architecture.task).fields
    rows = [collate.row({**example, "image": p}, fields, OBJECTS) for p in pictures(size, count)]
    batch = jax.device_put(split_host(collate.stack(rows))[0])
    if what == "forward":
        picture = {key: batch[key] for key in ("image", "image_size")}

        @jax.jit
        def forward(variables, batch):
            return architecture.predict(architecture.model.apply(variables, batch, train=False), batch)

        return lambda: jax.block_until_ready(forward(variables, picture))
    settings = configs.override(
        configs.default(), {"optimizer": {"name": "sgd", "learning_rate": 1e-4, "schedule": "constant"}}
    ).optimizer
    optimizer, _ = make_optimizer(settings, 100, variables["params"])
    state = [TrainState.create(variables, optimizer)]
    step = jax.jit(functools.partial(train_step, architecture=architecture, optimizer=optimizer), donate_argnums=0)

    def train():
        state[0], metrics = step(state[0], batch)
        jax.block_until_ready((state[0], metrics))

    return train


# Taking turns


def worker(side, options):
    """Answers each line: "prepare ROW" and "run", with a line of JSON."""
    run = None
    for line in sys.stdin:
        began = time.perf_counter()
        if line.startswith("prepare "):
            run = {"ours": ours, "theirs": theirs}[side](
                line.removeprefix("prepare ").strip(), options.weights, options
            )
            run()  # compiles, warms up
        run()
        seconds = time.perf_counter() - began
        print("\n" + json.dumps({"seconds": seconds, "peak": _peak()}), flush=True)


def _peak():
    """The most memory that this process has had, in bytes; getrusage would tell that of the process which started it."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


class Side:
    """A process that runs a row when it is told to."""

    def __init__(self, python, side, row, weights, flags):
        command = [python, os.path.abspath(__file__), "--worker", side, "--weights", weights, *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer = self.ask(f"prepare {row}")

    def ask(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith('{"seconds"'):
                return json.loads(line)
        raise RuntimeError(f"a worker ended with status {self.process.wait()}; its error stands above")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(row, options, flags):
    """[(median seconds, peak bytes) of this library, of torchvision]."""
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.npz")
        if row not in OPS:
            np.savez(weights, **random_weights(row.split()[0]))
        pythons = {"ours": sys.executable, "theirs": options.torch_python}
        sides = [Side(python, side, row, weights, flags) for side, python in pythons.items()]
        answers = [[side.ask("run") for side in sides] for _ in range(options.repeats)]
        for side in sides:
            side.close()
    return [(np.median([a["seconds"] for a in turn]), turn[-1]["peak"]) for turn in zip(*answers)]


def random_weights(name):
    """A state dict as at the start of a training, of this library's initialisers."""
    import jax

    from jaxvision.interop import convert
    from jaxvision.interop.torchvision import builder_of, to_torchvision

    architecture = builder_of(name).create()
    shapes = convert.abstract(architecture)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    draw, entries = DRAW(3), to_torchvision(name, variables)
    for key, value in entries.items():
        if value.dtype == np.float32:
            if key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")):
                entries[key] = np.ones_like(value)
            elif value.ndim > 1:
                scale = np.sqrt(1 / np.prod(value.shape[1:]))
                entries[key] = (scale * draw.standard_normal(value.shape)).astype(np.float32)
    return entries


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--rows", default="", help="a pattern: only rows in which it is found")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--worker", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker, options)
    check = subprocess.run([options.torch_python, "-c", "import torchvision"], cwd="/", capture_output=True)
    if check.returncode:
        parser.error(f"{options.torch_python} has no torchvision: name another interpreter by --torch-python.")
    flags = [f"--{name}" for name in ("bfloat16", "compile") if getattr(options, name)]
    print(f"{'':45}{'jaxvision':>12}{'torchvision':>12}{'ratio':>7}{'images/s':>10}{'peak MiB':>15}")
    for row in ROWS:
        if re.search(options.rows, row):
            (mine, my_peak), (other, other_peak) = measure(row, options, flags)
            count = 1 if row in OPS or row.endswith("predict") else MODELS[row.split()[0]][1]
            print(
                f"{row:45}{mine * 1e3:9.1f} ms{other * 1e3:9.1f} ms{mine / other:7.2f}{count / mine:10.2f}"
                f"{my_peak / 2**20:8.0f}{other_peak / 2**20:7.0f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
