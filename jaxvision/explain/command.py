"""What `jaxvision explain` and `jaxvision features` do with a run and image files."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import jax
import numpy as np

from jaxvision.data.images import read_image, write_image
from jaxvision.explain.cam import class_activation
from jaxvision.explain.endpoints import prepared, spatial
from jaxvision.explain.features import features
from jaxvision.explain.grad_cam import grad_cam
from jaxvision.explain.methods import CHANNELS, SIGNALS
from jaxvision.explain.saliency import deconvnet, guided_grad_cam, saliency
from jaxvision.explain.targets import ClassScore, DetectionScore, JointScore, RegionScore, within
from jaxvision.predictor import Predictor
from jaxvision.suggest import suggest
from jaxvision.visualize.heatmaps import draw_heatmap, draw_maps, draw_signal
from jaxvision.visualize.layout import enlarge, enlargement, side_by_side


class Seen:
    """An image as a run's network sees it: its place on the canvas, and what is predicted."""

    def __init__(self, predictor: Predictor, forward: Callable, class_names: Sequence[str], path: str):
        self.path, self.names, self.image = path, class_names, read_image(path)
        [row] = predictor.rows([path])
        self.size = row["image_size"]
        self.batch = {name: value[None] for name, value in row.items()}
        self.network, variables, self.batch = prepared(predictor.architecture, predictor.variables, self.batch)
        self.outputs = forward(self.network, variables, self.batch)
        self.canvas = self.batch["image"].shape[1:3]
        self.ratio = np.array(self.image.shape[:2]) / self.size  # pixels of the image a pixel of the canvas

    def target(self, text: str) -> Any:
        """The target that a user means; '' is the likeliest class, the best detection, the region of the largest class."""
        kind, _, rest = text.partition(":")
        if not text:
            return self._likeliest()
        if kind == "detection":
            target = DetectionScore(_number(rest, text))
        elif kind == "region":
            name, _, where = rest.partition("@")
            target = RegionScore(self._class(name), **self._region(where))
        elif match := re.fullmatch(r"joint:(\d+)(?::([xy])|@(\d+))?", text):
            target = JointScore(int(match[1]), int(match[3] or 0), match[2] or "")
        elif kind == "joint":
            raise ValueError(
                f"Target {text!r} is not joint:JOINT, joint:JOINT@DETECTION, joint:JOINT:x or joint:JOINT:y."
            )
        else:
            target = ClassScore(self._class(rest if kind == "class" else text))
        target.check(self.outputs)
        row = getattr(target, "index" if kind == "detection" else "detection", None)
        if row is not None and "valid" in self.outputs and not self.outputs["valid"][0, row]:
            found = int(self.outputs["valid"].sum())
            raise ValueError(f"{self.path}: there is no detection {row}; {found} were found, counted from 0.")
        return target

    def _likeliest(self):
        if "valid" in self.outputs:
            return self.target("detection:0")
        if "joints" not in self.outputs and np.ndim(self.outputs.get("logits")) == 2:
            return ClassScore(int(self.outputs["logits"][0].argmax()))
        if "semantic" in self.outputs:
            classes = self.outputs["semantic"][0, : self.size[0], : self.size[1]]
            counts = np.bincount(classes.ravel(), minlength=len(self.names))
            if counts[[name != "background" for name in self.names]].any():
                counts[[name == "background" for name in self.names]] = 0
            return RegionScore(int(counts.argmax()))
        raise ValueError("Say what is to be explained, as --target joint:0:x.")

    def _class(self, name: str) -> int:
        if name in self.names:
            return self.names.index(name)
        if not re.fullmatch(r"-?\d+", name):
            raise ValueError(f"There is no class {name!r}; {suggest(name, self.names)}")
        within("Class", int(name), len(self.names))
        return int(name)

    def _region(self, where: str) -> dict:
        """A box "x1,y1,x2,y2" in pixels of the image, or the file of a mask, on the canvas."""
        if re.fullmatch(r"[\d.]+(,[\d.]+){3}", where):
            return {"box": np.array(where.split(","), np.float32) / np.tile(self.ratio[::-1], 2).astype(np.float32)}
        if not where:
            return {}
        mask = read_image(where).max(-1)
        if mask.shape != self.image.shape[:2]:
            raise ValueError(f"{where}: the mask has {mask.shape} pixels, {self.path} has {self.image.shape[:2]}.")
        small = cv2.resize(mask, tuple(int(n) for n in self.size[::-1]), interpolation=cv2.INTER_NEAREST)
        return {"mask": np.pad(small, [(0, n - m) for n, m in zip(self.canvas, small.shape)])}

    def label(self, target: Any) -> str:
        """A target's name: of what, and of what kind."""
        if isinstance(target, DetectionScore):
            return f"{self.names[int(self.outputs['classes'][0, target.index])]} {target.index}"
        if isinstance(target, JointScore):
            return f"joint {target.index} {target.axis}".strip()
        return self.names[target.index] if target.index < len(self.names) else str(target.index)

    def cut(self, maps: np.ndarray) -> np.ndarray:
        """Maps (h, w) over the canvas as (H, W) over the part of it that is the image."""
        height, width = self.canvas
        return cv2.resize(maps, (width, height), interpolation=cv2.INTER_LINEAR)[: self.size[0], : self.size[1]]

    def peak(self, values: np.ndarray) -> list[float]:
        """x, y in pixels of the image of the highest of values (H, W) on its part of the canvas, at the pixel's centre."""
        y, x = np.unravel_index(values.argmax(), values.shape)
        return [round(float((n + 0.5) * r), 1) for n, r in zip((x, y), self.ratio[::-1])]


def explain(
    predictor: Predictor,
    class_names: Sequence[str],
    paths: Mapping[str, str],
    method: str,
    layer: str | None,
    targets: Sequence[str],
    channels: Sequence[int] | None,
) -> list[dict]:
    """Draws how the images came to what is predicted; a JSON-able record of each image and target.

    paths: {image file: picture to write}. targets: see `Seen.target`; none: the likeliest. channels: of "deconvnet", the
    strongest nine by default, and of "features".
    Raises ValueError for options that do not go with the method, and for what the network has not.
    """
    if method in CHANNELS and targets:
        raise ValueError(f"--method {method} is of a layer's channels: leave --target out, or take another.")
    if method not in CHANNELS and channels:
        raise ValueError(f"--channels is of {' and '.join(CHANNELS)}.")
    if method in ("guided", "gradient") and layer:
        raise ValueError(f"--method {method} goes back to the pixels: leave --layer out, or take guided_gradcam.")
    forward = jax.jit(lambda network, variables, batch: network(variables, batch), static_argnums=0)
    records = []
    for path, picture in paths.items():
        seen = Seen(predictor, lambda *a: jax.device_get(forward(*a)), class_names, path)
        model = predictor.architecture, predictor.variables, seen.batch
        place = layer or _deepest(seen.outputs, method)
        rows = [] if method in CHANNELS else [seen.target(text) for text in targets or ("",)]
        if method in CHANNELS:
            drawn, found = _channels(seen, model, method, place, channels)
        elif method in SIGNALS:
            drawn, found = _signals(seen, model, method, place, rows)
        else:
            drawn, found = _maps(seen, model, method, place, rows)
        write_image(picture, drawn)
        own = {"file_name": path, "method": method, "picture": picture}
        own |= {"layer": place} if method not in ("guided", "gradient") else {}
        records += [{**own, **row} for row in found]
    return records


def _deepest(outputs: Mapping, method: str) -> str:
    """The last of the maps c1, c2, ...; for "cam" the class maps of a network that has them."""
    if method == "cam" and "class_maps" in outputs:
        return "class_maps"
    levels = [name for name, value in outputs.items() if re.fullmatch(r"c\d+", name) and value.ndim == 4]
    return max(levels, key=lambda name: int(name[1:]), default="c5")


def _maps(seen, model, method, layer, targets):
    if method == "cam":
        if not all(isinstance(target, ClassScore) for target in targets):
            raise ValueError("--method cam explains classes; of other targets take gradcam.")
        found, _ = class_activation(*model, layer)
        maps = np.stack([np.asarray(found)[..., target.index] for target in targets], 1)
    else:
        form = {"counterfactual": method == "counterfactual", "local": method == "hirescam"}
        maps = np.asarray(grad_cam(*model, layer, targets, **form))
    if len(maps) != 1:
        raise ValueError(f"{layer} of {seen.network.name} has a map for each region: take --method guided or gradient.")
    heats = [seen.cut(one) for one in maps[0]]
    pictures = [draw_heatmap(seen.image, np.maximum(heat, 0)) for heat in heats]
    digits = np.vectorize(lambda value: float(f"{value:.5g}"), otypes=[float])
    extra = [{"peak": seen.peak(heat), "map": digits(one).tolist()} for heat, one in zip(heats, maps[0])]
    return _beside(seen, targets, pictures), _records(seen, targets, extra)


def _signals(seen, model, method, layer, targets):
    if method == "guided_gradcam":
        signals = guided_grad_cam(*model, layer, targets)
    else:
        signals = saliency(*model, targets, rule=method)
    signals = np.asarray(signals)[0, :, : seen.size[0], : seen.size[1]]
    extra = [{"peak": seen.peak(np.abs(one).sum(-1))} for one in signals]
    return _beside(seen, targets, [draw_signal(one) for one in signals]), _records(seen, targets, extra)


def _channels(seen, model, method, layer, channels):
    endpoint = spatial(*prepared(*model), layer, differentiable=False)
    values = np.asarray(features(*model, endpoint.name))
    if len(values) != 1:
        raise ValueError(f"{layer} of {seen.network.name} has a map for each region, and not of the image.")
    within("Channel", channels or (), values.shape[-1])
    strongest = np.argsort(-values[0].max((0, 1)), kind="stable").tolist()
    if method == "features":
        chosen = channels or sorted(strongest[:64])
        drawn, found = draw_maps(values[0], chosen), [{} for _ in chosen]
    else:
        chosen = channels or strongest[:9]
        signals = np.asarray(deconvnet(*model, layer, chosen))[0, :, : seen.size[0], : seen.size[1]]
        titles = ["image", *(f"{layer} {k}" for k in chosen)]
        drawn = _in_rows([_large(seen.image), *map(draw_signal, signals)], titles)
        found = [{"peak": seen.peak(np.abs(one).sum(-1))} for one in signals]
    return drawn, [{"channel": k, "activation": float(values[0, ..., k].max()), **row} for k, row in zip(chosen, found)]


def _large(image):
    return enlarge(image, enlargement(image.shape))


def _score(seen, target) -> float:
    return float(np.ravel(target(seen.outputs))[0])


def _beside(seen, targets, pictures):
    titles = [f"{seen.label(target)} {_score(seen, target):.2f}" for target in targets]
    return _in_rows([_large(seen.image), *pictures], ["image", *titles])


def _in_rows(pictures, titles, columns: int = 5) -> np.ndarray:
    starts = range(0, len(pictures), columns)
    rows = [side_by_side(pictures[i : i + columns], titles[i : i + columns]) for i in starts]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])


def _records(seen, targets, extra):
    return [{"target": seen.label(t), "score": _score(seen, t), **row} for t, row in zip(targets, extra)]


def _number(text: str, target: str) -> int:
    if not text.isdigit():
        raise ValueError(f"Target {target!r} is not detection:NUMBER, 0 being the best.")
    return int(text)


def save_features(predictor: Predictor, paths: Sequence[str], layer: str, out: str, pool: bool) -> tuple[int, ...]:
    """Writes the layer's arrays of all images, `features`, with their `files`, as an .npz; returns the array's shape.

    pool: the mean over height and width in place of a map. Raises ValueError where images of several sizes give maps that are
    no one array, and for a layer that does not exist.
    """
    found, kinds = {}, {}
    rows = predictor.rows(list(paths))
    for i, row in enumerate(rows):
        kinds.setdefault(tuple(value.shape for value in row.values()), []).append(i)
    for members in kinds.values():
        for start in range(0, len(members), predictor.batch_size):
            chosen = members[start : start + predictor.batch_size]
            filled = chosen + chosen[-1:] * (predictor.batch_size - len(chosen))
            batch = {name: np.stack([rows[i][name] for i in filled]) for name in rows[chosen[0]]}
            values = np.asarray(features(predictor.architecture, predictor.variables, batch, layer))
            if len(values) != len(filled):
                raise ValueError(f"{layer} has {len(values)} rows for {len(filled)} images: they are of regions.")
            values = values.astype(np.float32)
            values = values.mean((1, 2)) if pool and values.ndim == 4 else values
            found |= dict(zip(chosen, values))
    shapes = {value.shape for value in found.values()}
    if len(shapes) > 1:
        raise ValueError(f"The images have {layer} of {len(shapes)} sizes, which are no one array: give --pool.")
    array = np.stack([found[i] for i in range(len(rows))])
    with open(out, "wb") as file:
        np.savez(file, features=array, files=np.array([os.fspath(path) for path in paths]), layer=layer)
    return array.shape
