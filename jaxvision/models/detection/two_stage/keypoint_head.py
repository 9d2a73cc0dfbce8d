"""Joints of regions of interest, as in Mask R-CNN's section 5 (He et al., ICCV 2017), by torchvision's rules."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxvision.layers.conv import Conv
from jaxvision.layers.norm import Norm
from jaxvision.losses.cross_entropy import softmax_cross_entropy
from jaxvision.ops.keypoints import keypoint_cells
from jaxvision.ops.resize import conv_transpose, resize


class KeypointHead(nn.Module):
    """RoI features (B,R,s,s,C) to heat-map logits (B,R,4s,4s,joints): 3x3 convolutions, a transposed one, bilinear x2."""

    joints: int
    convs: Sequence[int] = (512,) * 8
    norm: str = "none"
    axis: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        batch, rois, side = x.shape[:3]
        x = x.reshape(batch * rois, *x.shape[2:])
        for i, features in enumerate(self.convs):
            x = Conv(features, 3, bias=self.norm == "none", name=f"conv{i}")(x)
            x = nn.relu(Norm(self.norm, axis=self.axis, name=f"norm{i}")(x, train))
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("logits", init, (4, 4, self.joints, x.shape[-1]))
        x = conv_transpose(x, kernel, 2, 1) + self.param("logits_bias", nn.initializers.zeros, (self.joints,))
        return resize(x, 4 * side).reshape(batch, rois, 4 * side, 4 * side, self.joints)


def keypoint_losses(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], real) -> dict:
    """`keypoint`: cross-entropy over a heat-map's cells, over the labelled joints that lie in a positive RoI.

    Raises ValueError where the batch has another number of joints than the model.
    """
    logits = outputs["keypoint_logits"]
    count, side, _, joints = logits.shape[1:]
    if batch["keypoints"].shape[2] != joints:
        raise ValueError(f"The batch has {batch['keypoints'].shape[2]} joints, the model {joints}: set its `joints`.")
    rois, matches, classes = (outputs[name][:, :count] for name in ("rois", "roi_matches", "roi_classes"))
    valid = outputs["rois_valid"][:, :count] & (classes > 0)
    valid = valid if real is None else valid & real[:, None]
    truth = jnp.take_along_axis(batch["keypoints"], matches[..., None, None], 1)
    cells, inside = jax.vmap(lambda *image: keypoint_cells(*image, side))(truth, rois)
    logits = jnp.moveaxis(logits, -1, 2).reshape(*cells.shape, side * side)
    return {"keypoint": softmax_cross_entropy(logits, cells, inside & valid[..., None])}
