"""Scenes written as a COCO folder and read back: the same batches, the same scores."""

import numpy as np
import pytest

from jaxvision.data.coco import export_coco
from jaxvision.data.loader import Batches
from jaxvision.data.sources import open_source
from jaxvision.tasks import get

FIELDS = get("instance_segmentation").fields


@pytest.fixture(scope="module")
def sources(scenes_dir, tmp_path_factory):
    scenes = open_source("scenes/shapes", "validation", str(scenes_dir))
    annotations, images = export_coco(scenes, tmp_path_factory.mktemp("coco"))
    return scenes, open_source("coco", f"{annotations}:{images}")


@pytest.mark.parametrize("seed", [None, 3])
def test_the_same_batches(sources, seed):
    transforms = {"flip": {}, "quarter_turn": {}, "color_jitter": {}}
    one, other = (
        Batches(
            source,
            batch_size=4,
            fields=FIELDS,
            canvases=[(96, 128)],
            seed=seed,
            transforms_config=transforms,
            max_boxes=6,
        )
        for source in sources
    )
    for t in range(4):
        for name, value in one[t].items():
            np.testing.assert_array_equal(value, other[t][name], err_msg=f"batch {t}, {name}")


def test_the_same_scores(sources):
    """Jittered boxes with random scores: neither perfect nor nothing."""
    scores = []
    for source in sources:
        evaluator, rng = get("instance_segmentation").evaluator(source), np.random.default_rng(0)
        for i in range(len(source)):
            truth = source.annotations(i)
            count = len(truth["boxes"])
            boxes = truth["boxes"] + rng.normal(0, 2, (count, 4)).astype(np.float32)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
            result = {"boxes": boxes, "classes": truth["classes"], "scores": rng.random(count)}
            evaluator.update(truth["image_id"], result | {"masks": truth["masks"].astype(bool)})
        scores.append(evaluator.compute())
    assert 0.1 < scores[0]["box/AP"] < 0.9
    np.testing.assert_equal(*scores)
