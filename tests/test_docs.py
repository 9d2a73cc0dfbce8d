"""What the pages say holds: Python blocks run, files that they name exist, every config key is explained."""

import pathlib
import re

import jax
import pytest

from jaxvision import config as configs
from jaxvision.data.transforms import TRANSFORMS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A path in backticks, or the target of a link: words with slashes, or a file of a kind that the repository holds.
PATH = re.compile(r"(?:`|\]\()((?:[\w.-]+/)*[\w.-]*(?:/|\.(?:py|md|toml|npz))|LICENSE|(?:[\w.-]+/)+[\w-]+)(?:`|\))")
ROOMS = {path.name for path in ROOT.iterdir() if path.is_dir()}


def python_blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def named_paths(text):
    """Paths of this repository: what begins with one of its folders, or is a file that is not in any folder."""
    for path in PATH.findall(text):
        first = path.split("/")[0]
        if first in ROOMS or ("/" not in path and path.endswith((".py", ".md", ".toml", "LICENSE"))):
            yield path


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, scenes_dir, tmp_path, monkeypatch, quick_compilation):
    """In order, with what earlier blocks of the page left, in a folder of their own, on a few scenes."""
    blocks = python_blocks(page.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxvision.data.scenes.prepare", lambda name, *_: _prepared(name, scenes_dir))
    names = {}
    for i, block in enumerate(blocks, 1):
        exec(compile(block, f"{page.name}, block {i}", "exec"), names)


def _prepared(name, data_dir):
    from jaxvision.data.scenes import Scenes

    return Scenes(config=name, data_dir=data_dir)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    missing = [path for path in named_paths(page.read_text()) if not (ROOT / path).exists()]
    assert not missing


def test_the_check_of_paths_sees_what_is_wrong():
    assert list(named_paths("`docs/nothing.md`, `train.py`, [x](docs/x.md) `runs/quickstart` `a.b` `box/AP`")) == [
        "docs/nothing.md",
        "train.py",
        "docs/x.md",
    ]


def test_every_config_key_is_explained_with_its_default():
    cell = r"\|([^|\n]*)"
    lines = re.findall(rf"^\| `([\w.*]+)` {cell}{cell}{cell}\|$", (ROOT / "docs" / "config.md").read_text(), re.M)
    rows = {key: default for key, _, default, _ in lines}
    leaves = configs._leaves(configs.default())
    leaves |= {"architecture.name": leaves.pop("architecture")["name"]}
    assert set(rows) == set(leaves) | {"architecture.*"}
    wrong = {key: rows[key] for key, value in leaves.items() if eval(rows[key].strip(" `")) != _plain(value)}
    assert not wrong


def _plain(value):
    return value.to_dict() if hasattr(value, "to_dict") else value


def test_every_transform_is_explained():
    page = (ROOT / "docs" / "config.md").read_text()
    assert [name for name in re.findall(r"^\| `(\w+)` \|", page, re.M) if name in TRANSFORMS] == list(TRANSFORMS)
