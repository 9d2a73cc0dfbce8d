"""Linen models serve NNX users through Flax's own bridge."""

import jax
import numpy as np
from flax import nnx
from flax.nnx import bridge
from small import Network


def test_to_nnx_gives_the_same_outputs():
    network = Network("resnet")
    batch = network.batch(network.pictures)

    @nnx.jit
    def create(batch):
        return bridge.ToNNX(network.architecture.model, rngs=nnx.Rngs(1)).lazy_init(batch)

    model = create(batch)
    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
    variables = {kind: nnx.to_pure_dict(nnx.state(model, kinds[kind])) for kind in network.variables}
    assert jax.tree.structure(variables) == jax.tree.structure(network.variables)
    outputs, _, _ = network.forward(variables, batch)
    for key, value in nnx.jit(lambda model, batch: model(batch))(model, batch).items():
        np.testing.assert_allclose(value, outputs[key], atol=1e-4, err_msg=key)
