"""Shared by all tests: the CPU, tiny prepared sets, and compilations that are not done twice in one run."""

import os
import pathlib
import sys
import tempfile

import jaxlib.version  # reads no flags yet
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Small networks compile three times as quickly. XLA ends the process at a flag that it does not know, and flags go.
_OLDER = " --xla_cpu_use_fusion_emitters=false" if jaxlib.version.__version_info__ < (0, 11) else ""
os.environ.setdefault("XLA_FLAGS", f"--xla_backend_optimization_level=0{_OLDER}")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the processes that tests start share it; nothing outlives the run
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxvision-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
sys.path.insert(0, str(pathlib.Path(__file__).parent))  # so that every folder may `from tiny import tiny_config`

EXAMPLES = {"train": 32, "validation": 16, "test": 16}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A function that prepares a tiny set of a config of scenes, by its name, and returns the data_dir."""
    from jaxvision.data import scenes

    data_dir = str(tmp_path_factory.mktemp("scenes"))

    def prepare(name: str) -> str:
        scenes.prepare(name, data_dir, EXAMPLES)
        return data_dir

    return prepare


@pytest.fixture(scope="session")
def scenes_dir(prepared) -> str:
    """A data_dir with scenes/shapes: 32 images for training, 16 for validation and 16 for the test."""
    return prepared("shapes")
