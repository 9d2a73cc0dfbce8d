"""DeepLabv3+ against segmentation_models.pytorch's, whose outputs tests/golden/smp_deeplabv3plus.py wrote."""

import jax
import numpy as np
import pytest
from torch_golden import entry_shapes, formula, golden, load

from jaxvision.interop.classifiers import RESNET_TRUNK
from jaxvision.interop.convert import Builder, to_torch

NAME = "smp_deeplabv3plus"
SEPARABLE = ((r"depthwise\.", "0.0."), (r"pointwise\.", "0.1."), ("pointwise_norm", "1"))
DEEPLAB = Builder(
    "deeplabv3plus",
    dict(num_classes=5, backbone="resnet50", depthwise_norm=False, aspp_conv=True, decoder_convs=1),
    [
        *RESNET_TRUNK,
        ("^trunk/", "encoder."),
        ("^aspp/conv0_norm", "decoder.aspp.0.convs.0.1"),
        (r"^aspp/conv0\.", "decoder.aspp.0.convs.0.0."),
        *((rf"^aspp/conv(\d)/{ours}", rf"decoder.aspp.0.convs.\1.{theirs}") for ours, theirs in SEPARABLE),
        ("^aspp/pool_norm", "decoder.aspp.0.convs.4.2"),
        ("^aspp/pool", "decoder.aspp.0.convs.4.1"),
        ("^aspp/project_norm", "decoder.aspp.0.project.1"),
        ("^aspp/project", "decoder.aspp.0.project.0"),
        (r"^aspp_conv/depthwise\.", "decoder.aspp.1.0."),
        (r"^aspp_conv/pointwise\.", "decoder.aspp.1.1."),
        ("^aspp_conv/pointwise_norm", "decoder.aspp.2"),
        ("^low_norm", "decoder.block1.1"),
        ("^low", "decoder.block1.0"),
        *((rf"^decoder1/{ours}", f"decoder.block2.{theirs}") for ours, theirs in SEPARABLE),
        ("^logits", "segmentation_head.0"),
    ],
)


@pytest.mark.parity
@pytest.mark.parametrize("stride", [16, 8])
def test_logits_are_smps_and_weights_come_back(stride):
    variables = load(DEEPLAB, NAME, output_stride=stride)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 26_682_725 - 16 * 257  # 21 classes there
    entries, back = formula.state_dict(entry_shapes(NAME)), to_torch(DEEPLAB, variables)
    assert back.keys() == entries.keys()
    for name, value in entries.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)
    architecture = DEEPLAB.create(output_stride=stride)
    batch = {"image": formula.image("segment", 64, 96)[None], "image_size": np.array([[64, 96]], np.int32)}
    logits = jax.jit(lambda v: architecture.model.apply(v, batch)["logits"])(variables)
    wanted = golden(NAME)[f"stride{stride}"].transpose(0, 2, 3, 1)
    assert wanted.std() > 0
    np.testing.assert_allclose(logits, wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)
    print(stride, np.abs(logits - wanted).max() / np.abs(wanted).max())
