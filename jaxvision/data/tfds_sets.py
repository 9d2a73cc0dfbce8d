"""Which sets of TensorFlow Datasets are sources, by the names of their builders."""

import os

from jaxvision.data import tfds_classification, tfds_detection, tfds_segmentation
from jaxvision.data.tfds_source import TfdsSource


def open_tfds(builder: str, split: str, data_dir: str | None = None) -> TfdsSource:
    """A split of a prepared builder, such as "cityscapes", "voc/2007", "kitti" or "cifar10".

    Raises ValueError for another builder, and as `TfdsSource` does.
    """
    name, data_dir = builder.partition("/")[0], os.path.expanduser(data_dir) if data_dir else None
    if name in tfds_segmentation.LAYOUTS:
        return tfds_segmentation.TfdsSegmentation(builder, split, data_dir)
    if name in tfds_detection.LAYOUTS:
        return tfds_detection.TfdsDetection(builder, split, data_dir)
    if name in tfds_classification.LAYOUTS:
        return tfds_classification.TfdsClassification(builder, split, data_dir)
    known = ", ".join([*tfds_segmentation.LAYOUTS, *tfds_classification.LAYOUTS, *tfds_detection.LAYOUTS])
    raise ValueError(f"There is no set {builder!r} of TFDS here. Known: {known}.")
