"""Every recipe trains: embedded ones on a few small scenes, published ones by their shapes, or in full where time is no object."""

import functools
import json
import pathlib
import re

import jax
import pytest

from jaxvision import config as configs
from jaxvision import tasks
from jaxvision.architecture import REGISTRY
from jaxvision.batch import INPUTS, blank
from jaxvision.data.sources import open_source
from jaxvision.train.loop import build_architecture
from jaxvision.train.optimizer import make_optimizer, path_name
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs").glob("*.py"))


@pytest.fixture
def recipe(request, monkeypatch):
    """get_config() of a file, which may import others of the folder."""
    monkeypatch.syspath_prepend(str(ROOT))
    names = {}
    exec(compile(request.param.read_text(), str(request.param), "exec"), names)
    return names["get_config"]()


def shrunk(config, prepared):
    """Two steps on a few small scenes; everything else, architecture and transforms, as the recipe has it."""
    tiny = {
        "steps": 2,
        "batch_size": 2,
        "evaluate": {"every": 2},
        "checkpoint": {"every": 2},
        "optimizer": {"warmup": 0},
    }
    data = {"dir": prepared(config.data.source.partition("/")[2]), "workers": 0, "validation": "validation[:2]"}
    data |= {"test": "test[:2]"} if config.data.test else {}
    for stage in config.stages:
        if "source" in stage.get("data", {}):
            prepared(stage["data"]["source"].partition("/")[2])
    if all(side > 64 for canvas in configs.canvases(config) for side in canvas):
        data["canvas"] = (64, 64)
    stages = tuple(
        configs_merged(dict(stage), {k: v for k, v in tiny.items() if k in stage}) for stage in config.stages
    )
    return configs.override(config, {**tiny, "data": data, "stages": stages})


def configs_merged(stage, tiny):
    return {k: {**v, **tiny[k]} if isinstance(tiny.get(k), dict) else tiny.get(k, v) for k, v in stage.items()}


def on_scenes(config):
    """A recipe of a set that is not at hand, on scenes of its kind and from its own initialisers.

    With those a trunk of frozen norms gives losses in the hundreds, and at the published rates a step leads to infinity.
    """
    joints = {"joints": 14} if "joints" in config.architecture else {}
    name = config.architecture.name
    single = any(room in REGISTRY[name] for room in (".backbones.", ".weak.")) or name == "classification_localization"
    kind = "people" if joints else "single" if single else "shapes"
    data = {"source": f"scenes/{kind}", "train": "train", "validation": "validation"}
    rate = {"learning_rate": 1e-6}
    return configs.override(config, {"data": data, "architecture": joints, "init": (), "optimizer": rate})


def score_shrunk(config, tmp_path):
    from jaxvision import architecture as architectures
    from jaxvision.train.stages import run

    scores = run(config, str(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()).keys() == scores.keys()
    assert scores.keys() == {"validation", "test"} if config.data.test else {"validation"}
    options = {k: v for k, v in config.architecture.to_dict().items() if k != "name"}
    architecture = architectures.create(config.architecture.name, **{"num_classes": 7, **options})
    metric = config.evaluate.metric or tasks.get(architecture.task).metric
    for split in scores.values():
        assert metric in split and split["loss"] > 0


EMBEDDED = [path for path in RECIPES if "scenes/" in path.read_text() or path.stem.endswith("scenes")]
OTHERS = [path for path in RECIPES if path not in EMBEDDED]


@pytest.mark.parametrize("recipe", EMBEDDED, ids=lambda path: path.stem, indirect=True)
def test_every_recipe_trains_and_is_scored(recipe, prepared, tmp_path):
    configs.check(recipe)
    score_shrunk(shrunk(recipe, prepared), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", OTHERS, ids=lambda path: path.stem, indirect=True)
def test_every_published_recipe_trains_and_is_scored(recipe, prepared, tmp_path):
    """Two steps of the full network on its own canvas."""
    config = on_scenes(recipe)
    canvas = configs.canvases(config)[0]
    config = configs.override(shrunk(config, prepared), {"data": {"canvas": canvas}})
    score_shrunk(config, tmp_path)


@pytest.mark.parametrize("recipe", OTHERS, ids=lambda path: path.stem, indirect=True)
def test_every_published_recipe_can_be_traced(recipe, prepared):
    """Step and prediction of the full network on its own canvas, without compiling them; patterns find parameters."""
    configs.check(recipe)
    config = on_scenes(recipe)
    source = open_source(config.data.source, "train", prepared(config.data.source.partition("/")[2]))
    architecture, _ = build_architecture(config, source)
    fields = tasks.get(architecture.task).fields
    batch = blank(fields, configs.canvases(config)[0], 2, max_boxes=4, joints=len(source.keypoint_names))
    variables = jax.eval_shape(architecture.init, jax.random.key(0), batch)
    optimizer, _ = make_optimizer(config.optimizer, config.steps, variables["params"])
    state = jax.eval_shape(lambda v: TrainState.create(v, optimizer), variables)
    step = functools.partial(train_step, architecture=architecture, optimizer=optimizer)
    after, metrics = jax.eval_shape(step, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["loss"].shape == () and len([name for name in metrics if name.startswith("loss/")]) > 0

    def predict(variables, batch):
        return architecture.predict(architecture.model.apply(variables, batch, train=False), batch)

    assert jax.eval_shape(predict, variables, {name: batch[name] for name in INPUTS if name in batch})
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])]
    for pattern, origin, *_ in recipe.init:
        assert any(re.search(pattern, path) for path in paths)
        assert re.fullmatch(r"\w+:[\w-]+-[0-9a-f]{8}\.pth", origin)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_says_how_it_is_run_and_what_it_reaches(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith('"""')
    assert f"python train.py --config=configs/{path.name} --workdir=runs/{path.stem}" in lines
    assert any(line.startswith("reaches: ") for line in lines)
