"""What an import costs: rooms load only what they stand on."""

import subprocess
import sys

HOST = (
    "jaxvision.data.coco",
    "jaxvision.data.mask_folder",
    "jaxvision.data.pose_sets",
    "jaxvision.data.scenes",
    "jaxvision.data.sources",
    "jaxvision.data.tfds_sets",
    "jaxvision.data.transforms",
    "jaxvision.data.voc",
    "jaxvision.data.voc_detection",
    "jaxvision.metrics.coco",
    "jaxvision.metrics.confusion",
    "jaxvision.metrics.error_types",
    "jaxvision.metrics.pose",
    "jaxvision.metrics.recall",
    "jaxvision.metrics.voc",
    "jaxvision.metrics.classification",
)
LIFTED = (
    "jaxvision.ops.anchors, jaxvision.ops.boxes, jaxvision.ops.crf, jaxvision.ops.masks, jaxvision.ops.matching, "
    "jaxvision.ops.nms, jaxvision.ops.pool, jaxvision.ops.resize, jaxvision.ops.roi, jaxvision.ops.sampling, "
    "jaxvision.losses.box_regression, jaxvision.losses.cross_entropy, jaxvision.losses.focal"
)


def loaded_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_package_itself_is_lazy():
    assert not loaded_by("import jaxvision; dir(jaxvision)") & {"jax", "flax", "numpy", "cv2", "optax", "orbax"}


def test_data_and_metrics_load_no_jax():
    assert not loaded_by("import " + ", ".join(HOST)) & {"jax", "flax", "optax", "orbax", "tensorflow", "torch"}


def test_the_loader_loads_no_network_code():
    """grain brings jax and orbax with it."""
    assert not loaded_by("import jaxvision.data.loader") & {"flax", "optax", "tensorflow", "torch"}


def test_operators_and_losses_can_be_lifted_into_other_code():
    assert not loaded_by(f"import {LIFTED}") & {"flax", "optax", "orbax", "cv2", "tensorflow_datasets"}


def test_the_face_loads_on_demand():
    loaded = loaded_by("import jaxvision; jaxvision.create; jaxvision.Predictor; jaxvision.tasks")
    assert {"jax", "flax"} <= loaded and not loaded & {"tensorflow", "torch"}
