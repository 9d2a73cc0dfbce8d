import jax
import numpy as np
from small import batch_of, create, example, kept_and_dropped
from test_parameter_counts import size

from jaxvision import architecture as architectures
from jaxvision.interop.convert import abstract
from jaxvision.models.segmentation.objective import segmentation_losses, segmentation_predict


def test_sizes_are_the_formulas():
    """A head is 9 C C/4 weights, the norm's pair of C/4, and a score layer."""

    def head(channels, classes):
        quarter = channels // 4
        return 9 * channels * quarter + 2 * quarter + (quarter + 1) * classes

    params = abstract(architectures.create("fcn_resnet", num_classes=21, aux=True))["params"]
    assert size(params["head"]) == head(2048, 21) and size(params["aux"]) == head(1024, 21)
    assert size(params["trunk"]) == 25_557_032 - 2049 * 1000  # ResNet-50 without its classifier


def test_dropout_is_for_training_alone():
    architecture = create("fcn_resnet", dropout=0.5, norm="group", aux=False)
    batch = batch_of([example(0)], "segmentation")
    variables = architecture.init(jax.random.key(0), batch)
    kept, dropped = kept_and_dropped(architecture, variables, batch)
    assert np.abs(kept["logits"] - dropped["logits"]).max() > 1e-3
    np.testing.assert_allclose(kept["c5"], dropped["c5"], atol=1e-5)


def test_segmenters_share_their_losses():
    for name in ("fcn8s", "fcn_resnet", "unet"):
        assert create(name).losses is segmentation_losses and create(name).predict is segmentation_predict
