"""torchvision's golden outputs, the weights and pictures they were made of, and what is asked of every family."""

import functools
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.interop.convert import abstract, from_torch, places
from jaxvision.ops.boxes import iou
from jaxvision.ops.resize import resize

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import formula  # noqa: E402

SIZES = [(160, 200), (180, 120)]  # of the pictures "detect0" and "detect1"
# Networks of full size: a slower compilation for quicker code, whatever the suite is compiled with.
optimized_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 2})


@functools.cache
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def entry_shapes(name: str) -> dict[str, tuple]:
    return {k: tuple(v) for k, v in json.loads((GOLDEN / f"{name}.shapes.json").read_text()).items()}


def load(builder, name: str, **options):
    """Variables of the formula's weights."""
    return from_torch(builder, abstract(builder.create(**options)), formula.state_dict(entry_shapes(name)))


def on_canvas(index: int, size, canvas) -> np.ndarray:
    """The picture at `size`, (1, H, W, 3) with zeros beyond."""
    image = formula.image(f"detect{index}", *SIZES[index]).astype(jnp.float32)
    image = np.asarray(resize(image, tuple(size)))
    return np.pad(image, ((0, canvas[0] - size[0]), (0, canvas[1] - size[1]), (0, 0)))[None]


def ratio(index: int, size) -> np.ndarray:
    """What brings boxes of the original to the picture at `size`."""
    return np.tile((size / np.array(SIZES[index]))[::-1], 2)


def single(name: str, index: int) -> dict[str, np.ndarray]:
    """A batch of one picture on its own canvas."""
    size = golden(name)[f"image_size.{index}"]
    image = on_canvas(index, size, golden(name)[f"input_shape.{index}"][2:])
    return {"image": image, "image_size": size[None].astype(np.int32)}


def both(name: str) -> dict[str, np.ndarray]:
    """A batch of both pictures with their objects."""
    found = golden(name)
    sizes = [found[f"image_size.{i}"] for i in range(2)]
    boxes = [found[f"target.boxes.{i}"] * ratio(i, size) for i, size in enumerate(sizes)]
    return {
        "image": np.concatenate([on_canvas(i, size, found["batch_shape"][2:]) for i, size in enumerate(sizes)]),
        "image_size": np.array(sizes, np.int32),
        "boxes": np.stack(boxes).astype(np.float32),
        "classes": np.stack([found[f"target.labels.{i}"] for i in range(2)]).astype(np.int32),
        "valid": np.ones((2, 4), bool),
    }


def detections(name: str, index: int, predictions) -> dict[str, np.ndarray]:
    """The rows that are valid, boxes in pixels of the original."""
    rows = {key: value[0][predictions["valid"][0]] for key, value in predictions.items() if key != "overflow"}
    return {**rows, "boxes": rows["boxes"] / ratio(index, golden(name)[f"image_size.{index}"])}


def expected(name: str, index: int, few: bool) -> dict[str, np.ndarray]:
    """torchvision's detections: all, or those above a threshold that few pass."""
    names = {"boxes": "boxes", "classes": "labels", "scores": "scores"}
    return {ours: golden(name)[f"{'few.' * few}{theirs}.{index}"] for ours, theirs in names.items()}


def near(one: np.ndarray, other: np.ndarray, corner: float = 0.02) -> np.ndarray:
    """Which boxes have nearly the same place; slivers thinner than a pixel have it if their corners have, to `corner`."""
    corners = np.abs(one[:, None] - other).max(-1)
    return (np.array(iou(one.astype(np.float32), other.astype(np.float32))) > 0.99) | (corners < corner)


def same(one: dict, other: dict, corner: float) -> np.ndarray:
    """Which detections are the same: place, class, and score to 1e-3."""
    pairs = near(one["boxes"], other["boxes"], corner) & (one["classes"][:, None] == other["classes"])
    return pairs & (np.abs(one["scores"][:, None] - other["scores"]) < 1e-3)


def check_names(builder, name: str) -> None:
    """Every entry has torchvision's name and shape."""
    shapes = {
        builder.name(place): builder.shape(place, leaf)
        for place, (_, leaf) in places(abstract(builder.create())).items()
    }
    assert shapes == {k: v for k, v in entry_shapes(name).items() if not k.endswith("num_batches_tracked")}


def check_pyramid(name: str, index: int, outputs, levels: dict[str, str]) -> None:
    for ours, theirs in levels.items():
        wanted = golden(name)[f"feature.{theirs}.{index}"].transpose(0, 2, 3, 1)
        found = outputs[ours][:, ::2, ::2, ::16]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max(), err_msg=ours)


def check_detections(found: dict, wanted: dict, few: bool, corner: float = 0.02) -> np.ndarray:
    """98 of 100 are the same, of a few all but one, which may lie on a threshold; returns `same`."""
    assert abs(len(found["boxes"]) - len(wanted["boxes"])) <= few and (np.diff(found["scores"]) <= 0).all()
    pairs = same(found, wanted, corner)
    for matched in (pairs.any(0), pairs.any(1)):
        assert (~matched).sum() <= max(few, 0.02 * len(matched))
    return pairs


def check_losses(name: str, means: dict, names: dict[str, str]) -> None:
    wanted = {key.removeprefix("loss."): float(value) for key, value in golden(name).items() if key[:5] == "loss."}
    assert {names[ours] for ours in means} == wanted.keys()
    for ours, value in means.items():
        np.testing.assert_allclose(value, wanted[names[ours]], rtol=1e-4, err_msg=ours)


def gradients_in_float64(module: str, name: str, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """What `learned` of a test module gives for a network in which float32 leaves no three digits of a gradient."""
    script, out = pathlib.Path(__file__).with_name("in_float64.py"), folder / "gradients.npz"
    subprocess.run([sys.executable, script, module, name, out], check=True)
    with np.load(out) as file:
        return dict(file)


def check_gradients(name: str, gradients: dict) -> None:
    """Norms and 16 entries of each to 1e-3, and 1e-6 of the largest norm."""
    norms = {key.removeprefix("gradnorm."): value for key, value in golden(name).items() if key[:9] == "gradnorm."}
    assert norms.keys() == gradients.keys()
    slack = 1e-6 * max(norms.values())
    for key, norm in norms.items():
        assert gradients[key].dtype == norm.dtype
        np.testing.assert_allclose(np.linalg.norm(gradients[key]), norm, rtol=1e-3, atol=slack, err_msg=key)
        entries = gradients[key].ravel()[:: max(1, gradients[key].size // 16)][:16]
        np.testing.assert_allclose(entries, golden(name)[f"grad16.{key}"], rtol=1e-3, atol=slack, err_msg=key)
