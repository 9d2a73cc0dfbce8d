import json
import pathlib
import subprocess
import sys

import pytest

from jaxvision import config as configs

ROOT = pathlib.Path(__file__).parents[1]


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
        ("evaluate.batch_size", -1, "config.evaluate.batch_size must be a whole number, 0 for"),
        ("evaluate.canvas", (128,), "config.evaluate.canvas must be"),
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
    assert configs.canvases(config, train=False) == configs.canvases(config)
    config.evaluate.canvas = (64, 32)
    assert configs.canvases(config, train=False) == [(64, 32)] and len(configs.canvases(config)) == 2


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


def test_keys_newer_than_a_file_take_their_defaults():
    config = valid()
    config.data.canvas = (32, 32)
    old = json.loads(configs.dumps(config))
    del old["data"]["stretch"], old["remat"]
    assert json.loads(configs.dumps(configs.loads(json.dumps(old)))) == json.loads(configs.dumps(config))


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
