"""python in_float64.py TEST_MODULE NAME OUT.npz: the gradients that `learned` of a test module gives, in float64."""

import importlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
jnp.float32 = jnp.float64  # before the library is imported, which asks for float32 where a trunk may have less
sys.path[:0] = [str(pathlib.Path(__file__).parent)]

module, name, out = sys.argv[1:]
_, gradients, *_ = importlib.import_module(module).learned(name)
np.savez(out, **gradients)
