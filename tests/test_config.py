import functools
import json
import pathlib
import re
import subprocess
import sys

import jax
import pytest

from jaxvision import config as configs
from jaxvision import tasks
from jaxvision.batch import blank
from jaxvision.data.sources import open_source
from jaxvision.train.loop import build_architecture
from jaxvision.train.optimizer import make_optimizer, path_name
from jaxvision.train.state import TrainState
from jaxvision.train.step import train_step

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs").glob("*.py"))


def leaves(config: dict, prefix="") -> list[str]:
    found = []
    for key, value in config.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]
    return found


KEYS = [key for key in leaves(configs.default().to_dict()) if not key.startswith("architecture")]


def valid():
    config = configs.default()
    config.architecture.name = "resnet"
    return config


# Keys


def test_the_keys_are_those_of_the_house():
    config = configs.default().to_dict()
    assert set(config) == {
        *("seed", "steps", "batch_size", "log_every", "architecture", "data", "optimizer", "losses", "init"),
        *("evaluate", "checkpoint", "precision", "remat", "stages"),
    }
    configs.check(valid())


@pytest.mark.parametrize("key", KEYS)
def test_a_misspelt_key_names_the_real_one(key):
    config = valid()
    *path, last = key.split(".")
    inner = config
    for part in path:
        inner = inner[part]
    inner[last + "s"] = 1
    with pytest.raises(ValueError) as error:
        configs.check(config)
    assert f'Unknown config key "{key}s"; did you mean "{key}"?' in str(error.value)
    text = configs.unknown_override([f"--config.{key}s=1"])
    if key in ("data.transforms", "losses"):
        assert text is None or f'"{key}"' in text
    else:
        assert text == f'Unknown config key "{key}s" in --config.{key}s=1; did you mean "{key}"?'


def test_open_keys_are_left_to_those_who_know_them():
    config = valid()
    config.architecture.depths, config.losses.mask, config.data.transforms.flip = (1, 1), 2.0, {}
    configs.check(config)
    arguments = ["--config.architecture.depths=(1,1)", "--config.losses.mask=1", "--config.steps=3", "--workdir=x"]
    plain, opened = configs.split_arguments(arguments)
    assert plain == ["--config.steps=3", "--workdir=x"] and configs.unknown_override(plain) is None
    for key, value in [*opened, ("data.transforms.crop.height", "32"), ("architecture.deconv", "fixed")]:
        configs.set_open(config, key, value)
    assert config.architecture.depths == (1, 1) and config.architecture.deconv == "fixed"
    assert config.losses.mask == 1 and config.data.transforms.to_dict() == {"flip": {}, "crop": {"height": 32}}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture.name", "", "config.architecture.name is empty"),
        ("steps", 0, "config.steps must be a whole number of at least 1, got 0"),
        ("batch_size", -8, "config.batch_size must be"),
        ("log_every", 0, "config.log_every must be"),
        ("data.max_boxes", 0, "config.data.max_boxes must be"),
        ("optimizer.accumulate", 0, "config.optimizer.accumulate must be"),
        ("evaluate.every", 0, "config.evaluate.every must be"),
        ("checkpoint.every", 0, "config.checkpoint.every must be"),
        ("precision", "float16", "config.precision must be 'float32' or 'bfloat16', got 'float16'"),
        ("data.canvas", (), r"config.data.canvas must be \(height, width\) or several such pairs"),
        ("data.canvas", (128, 0), "config.data.canvas must be"),
        ("data.canvas", (128, 128, 3), "config.data.canvas must be"),
        ("data.scales", (), "config.data.scales must be positive numbers"),
        ("data.scales", (1.0, 0.0), "config.data.scales must be positive numbers"),
        ("data.canvas", ((128, 96), (64,)), "config.data.canvas must be"),
    ],
)
def test_values_that_cannot_be_meant(key, value, message):
    config = valid()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message):
        configs.check(config)


def test_canvases():
    config = valid()
    assert configs.canvases(config) == [(128, 128)]
    config.data.canvas = ((96, 128), (128, 96))
    assert configs.canvases(config) == [(96, 128), (128, 96)]
    assert configs.canvases(configs.loads(configs.dumps(config))) == [(96, 128), (128, 96)]


# Stages and files


def test_an_override_leaves_the_config_as_it_was():
    config = valid()
    config.data.transforms, config.losses, config.architecture.norm = {"flip": {}}, {"mask": 2.0}, "batch"
    before = config.to_json()
    changes = {
        "name": "finetune",
        "steps": 7,
        "optimizer": {"learning_rate": 1e-4},
        "data": {"canvas": (64, 64), "transforms": {"quarter_turn": {}}},
        "losses": {"class": 3.0},
    }
    stage = configs.override(config, changes)
    assert config.to_json() == before
    assert stage.steps == 7 and "name" not in stage
    assert stage.optimizer.learning_rate == 1e-4 and stage.optimizer.name == config.optimizer.name
    assert stage.data.canvas == (64, 64) and stage.data.source == config.data.source
    assert stage.data.transforms.to_dict() == {"quarter_turn": {}} and stage.losses.to_dict() == {"class": 3.0}


def test_another_architecture_takes_no_options_of_the_first():
    config = valid()
    config.architecture.norm = "batch"
    same = configs.override(config, {"architecture": {"depths": (1,)}}).architecture.to_dict()
    assert same == {"name": "resnet", "norm": "batch", "depths": (1,)}
    other = configs.override(config, {"architecture": {"name": "fcn8s"}}).architecture.to_dict()
    assert other == {"name": "fcn8s"}


def test_an_override_of_a_key_that_does_not_exist_is_found():
    stage = configs.override(valid(), {"optimizer": {"learning_rat": 1.0}})
    with pytest.raises(ValueError, match=r'"optimizer.learning_rat"; did you mean "optimizer.learning_rate"'):
        configs.check(stage)


def test_json_keeps_every_value():
    config = valid()
    config.architecture.widths = (1, 2)
    config.stages = ({"name": "a", "steps": 3}, {"name": "b", "init": ((".*", "a"),)})
    loaded = configs.loads(configs.dumps(config))
    assert (
        json.loads(configs.dumps(loaded))
        == json.loads(configs.dumps(config))
        == json.loads(json.dumps(config.to_dict()))
    )
    configs.check(loaded)
    assert configs.override(loaded, loaded.stages[1]).init == [[".*", "a"]]


# The command


def train(*arguments):
    command = [sys.executable, "train.py", "--config=configs/quickstart.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_command_names_a_misspelt_key_in_one_line(tmp_path):
    done = train(f"--workdir={tmp_path / 'run'}", "--config.optimizer.learning_rat=0.1")
    assert done.returncode == 1
    expected = 'Unknown config key "optimizer.learning_rat" in --config.optimizer.learning_rat=0.1; '
    assert done.stderr.strip() == expected + 'did you mean "optimizer.learning_rate"?'
    assert not (tmp_path / "run").exists()


def test_the_command_says_what_cannot_be_meant_in_one_line(tmp_path):
    fine = ["--config.data.canvas=(64, 64)", '--config.losses={"mask": 2.0}', "--config.architecture.fpn=32"]
    done = train(f"--workdir={tmp_path / 'run'}", "--config.precision=float16", *fine)
    assert done.returncode == 1
    assert done.stderr.strip() == "ValueError: config.precision must be 'float32' or 'bfloat16', got 'float16'."


# Recipes


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
    if all(side > 64 for canvas in configs.canvases(config) for side in canvas):
        data["canvas"] = (64, 64)
    stages = tuple(
        configs_merged(dict(stage), {k: v for k, v in tiny.items() if k in stage}) for stage in config.stages
    )
    return configs.override(config, {**tiny, "data": data, "stages": stages})


def configs_merged(stage, tiny):
    return {k: {**v, **tiny[k]} if isinstance(tiny.get(k), dict) else tiny.get(k, v) for k, v in stage.items()}


def on_scenes(config):
    """A recipe of a set that is not at hand, on scenes of its kind and from its own initialisers."""
    joints = {"joints": 14} if "joints" in config.architecture else {}
    data = {"source": f"scenes/{'people' if joints else 'shapes'}", "train": "train", "validation": "validation"}
    return configs.override(config, {"data": data, "architecture": joints, "init": ()})


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

    assert jax.eval_shape(predict, variables, {name: batch[name] for name in ("image", "image_size")})
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])]
    for pattern, origin in recipe.init:
        assert any(re.search(pattern, path) for path in paths)
        assert re.fullmatch(r"\w+:[\w-]+-[0-9a-f]{8}\.pth", origin)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_says_how_it_is_run_and_what_it_reaches(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith('"""')
    assert f"python train.py --config=configs/{path.name} --workdir=runs/{path.stem}" in lines
    assert any(line.startswith("reaches: ") for line in lines)
