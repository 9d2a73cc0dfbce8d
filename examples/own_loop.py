"""A training loop of one's own: the library gives the model, its losses and the batches; the rest is JAX and optax.

python examples/own_loop.py
"""

import jax
import jax.numpy as jnp
import optax

import jaxvision
from jaxvision.batch import split_host
from jaxvision.data.loader import Batches, load
from jaxvision.data.sources import open_source

source = open_source("scenes/shapes", "train[:32]")
batches = Batches(source, batch_size=8, fields=("semantic",), canvases=[(64, 64)], seed=0)
size = dict(depths=(1,) * 5, widths=(16, 32, 48, 64, 64), fc=64, input_pad=1, fc6_pad=3, norm="batch")
architecture = jaxvision.create("fcn8s", num_classes=len(source.class_names), **size)
variables = architecture.init(jax.random.key(0), split_host(batches[0])[0])
optimizer = optax.adam(3e-3)
opt_state = optimizer.init(variables["params"])


@jax.jit
def step(variables, opt_state, batch, key):
    def loss_fn(params):
        state, rngs = {**variables, "params": params}, {"dropout": key, "sampler": key}
        outputs, stats = architecture.model.apply(state, batch, train=True, rngs=rngs, mutable=["batch_stats"])
        terms = architecture.losses(outputs, batch)
        return sum(total / jnp.maximum(count, 1) for total, count in terms.values()), stats

    (loss, stats), gradient = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
    updates, opt_state = optimizer.update(gradient, opt_state)
    return {"params": optax.apply_updates(variables["params"], updates), **stats}, opt_state, loss


for t, batch in enumerate(load(batches, stop=40), 1):
    variables, opt_state, loss = step(variables, opt_state, split_host(batch)[0], jax.random.key(t))
    print(f"step {t}: loss {loss:.3f}")
