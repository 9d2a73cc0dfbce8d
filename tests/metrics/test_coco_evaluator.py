import json
import pickle

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxvision.data.coco import CocoSource, export_coco
from jaxvision.data.geometry import tight_boxes
from jaxvision.metrics.coco import KEYPOINT_STATISTICS, STATISTICS, CocoEvaluator

SIZE = (160, 200)


class Boxes:
    """A source of given annotations."""

    name, keypoint_names, flip_pairs, sigmas = "boxes", (), (), None
    class_names = ("background", "cat", "dog", "owl", "unseen")

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def annotations(self, i):
        return self.examples[i]

    def __getitem__(self, i):
        return {"image": np.zeros((*SIZE, 3), np.uint8), **self.examples[i]}


def random_boxes(rng, count):
    corners = rng.uniform(0, 90, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(3, 70, (count, 2))], 1).astype(np.float32)


def problem(seed, images=6, classes=3):
    """Ground truth with crowds, and detections: some of it shaken, some twice, some from nowhere, with tied scores."""
    rng = np.random.default_rng(seed)
    examples, results = [], {}
    for i in range(images):
        count = rng.integers(0, 6)
        boxes = random_boxes(rng, count)
        example = {
            "image_id": i,
            "boxes": boxes,
            "classes": rng.integers(1, classes + 1, count).astype(np.int32),
            "crowd": rng.random(count) < 0.2,
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(1) * rng.uniform(0.5, 1, count).astype(np.float32),
        }
        examples.append(example)
        found = np.repeat(boxes, 2, 0) + rng.normal(0, 4, (2 * count, 4)).astype(np.float32)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        found = np.concatenate([found, random_boxes(rng, 3)])
        labels = np.concatenate([np.repeat(example["classes"], 2), rng.integers(1, classes + 1, 3)])
        results[i] = {"boxes": found, "classes": labels, "scores": rng.integers(0, 12, len(found)) / 12}
    return examples, results


def slow_iou(a, b, crowd):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    own, other = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (own if crowd else own + other - width * height)


def slow_ap(examples, results, label, threshold, low=0.0, high=1e10):
    """COCO's average precision of one class at one IoU, in plain loops; nan without ground truth."""
    rows, positives = [], 0
    for example in examples:
        truth = [n for n, c in enumerate(example["classes"]) if c == label]
        ignored = {n: bool(example["crowd"][n]) or not low <= example["area"][n] <= high for n in truth}
        truth.sort(key=lambda n: ignored[n])
        positives += sum(not ignored[n] for n in truth)
        result = results[example["image_id"]]
        order = [n for n in range(len(result["scores"])) if result["classes"][n] == label]
        order.sort(key=lambda n: -result["scores"][n])
        taken = set()
        for d in order[:100]:
            box = result["boxes"][d].astype(np.float64)
            best, match = min(threshold, 1 - 1e-10), None
            for n in truth:
                if n in taken and not example["crowd"][n]:
                    continue
                if match is not None and not ignored[match] and ignored[n]:
                    break
                overlap = slow_iou(box, example["boxes"][n].astype(np.float64), example["crowd"][n])
                if overlap >= best:
                    best, match = overlap, n
            area = (box[2] - box[0]) * (box[3] - box[1])
            if match is not None:
                taken.add(match)
                drop = ignored[match]
            else:
                drop = not low <= area <= high
            rows.append((result["scores"][d], match is not None, drop))
    if not positives:
        return np.nan
    rows.sort(key=lambda row: -row[0])
    recalls, precisions, right, wrong = [], [], 0, 0
    for _, hit, drop in rows:
        right, wrong = right + (hit and not drop), wrong + (not hit and not drop)
        recalls.append(right / positives)
        precisions.append(right / max(right + wrong, 1))
    at = [max((p for r, p in zip(recalls, precisions) if r >= point), default=0) for point in np.linspace(0, 1, 101)]
    return float(np.mean(at))


@pytest.mark.parametrize("seed", range(4))
def test_boxes_agree_with_a_slow_average_precision(seed, capsys):
    examples, results = problem(seed)
    evaluator = CocoEvaluator(Boxes(examples))
    for image_id, result in results.items():
        evaluator.update(image_id, result)
    metrics = evaluator.compute()
    thresholds = np.linspace(0.5, 0.95, 10)
    table = np.array([[slow_ap(examples, results, c, t) for t in thresholds] for c in (1, 2, 3)])
    assert metrics["box/AP"] == pytest.approx(np.nanmean(table), abs=1e-9)
    assert metrics["box/AP50"] == pytest.approx(np.nanmean(table[:, 0]), abs=1e-9)
    assert metrics["box/AP75"] == pytest.approx(np.nanmean(table[:, 5]), abs=1e-9)
    for name, value in zip(("cat", "dog", "owl"), table.mean(1)):
        assert metrics[f"box/AP/{name}"] == pytest.approx(value, abs=1e-9, nan_ok=True)
    for name, low, high in ("s", 0, 32**2), ("m", 32**2, 96**2), ("l", 96**2, 1e10):
        sized = [[slow_ap(examples, results, c, t, low, high) for t in thresholds] for c in (1, 2, 3)]
        expected = np.nan if np.isnan(sized).all() else np.nanmean(sized)
        assert metrics[f"box/AP{name}"] == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert 0.01 < metrics["box/AP"] < 0.99 and np.isnan(metrics["box/AP/unseen"])
    assert set(metrics) == {f"box/{s}" for s in STATISTICS} | {f"box/AP/{c}" for c in Boxes.class_names[1:]}
    assert capsys.readouterr().out == ""


def perfect(example):
    fields = [name for name in ("boxes", "classes", "masks", "keypoints") if name in example]
    kept = ~example["crowd"] if "crowd" in example else slice(None)
    result = {name: example[name][kept] for name in fields}
    return result | {"scores": np.linspace(1, 0.5, len(result["boxes"]))}


class Everything(Boxes):
    """Masks and joints too, of one size class each; the category ids are not the classes."""

    keypoint_names, sigmas = ("left", "right", "top"), np.array([0.05, 0.05, 0.1])
    category_ids = np.array([-1, 11, 12, 13, 14])

    def __init__(self):
        examples = []
        for i in range(4):
            rng = np.random.default_rng(i)
            masks = np.zeros((3, *SIZE), np.uint8)
            for n, side in enumerate((20, 50, 110)):
                y, x = rng.integers(0, SIZE[0] - side), rng.integers(0, SIZE[1] - side)
                masks[n, y : y + side, x : x + side] = rng.random((side, side)) < 0.95
            boxes = tight_boxes(masks)
            joints = boxes[:, None, :2] + rng.uniform(0, 1, (3, 3, 2)) * (boxes[:, 2:] - boxes[:, :2])[:, None]
            keypoints = np.concatenate([joints, np.full((3, 3, 1), 2)], -1).astype(np.float32)
            example = {"image_id": 100 + i, "boxes": boxes, "classes": np.array([1, 2, 3], np.int32)}
            example |= {"crowd": np.zeros(3, bool), "area": masks.sum((1, 2)).astype(np.float32)}
            examples.append(example | {"masks": masks, "keypoints": keypoints})
        super().__init__(examples)


def test_the_truth_scores_one_and_all_names_are_there():
    source = Everything()
    evaluator = CocoEvaluator(source)
    for example in source.examples:
        evaluator.update(example["image_id"], perfect(example))
    metrics = evaluator.compute()
    names = {f"{kind}/{s}" for kind in ("box", "mask") for s in STATISTICS}
    names |= {f"keypoint/{s}" for s in KEYPOINT_STATISTICS}
    names |= {f"{kind}/AP/{c}" for kind in ("box", "mask", "keypoint") for c in source.class_names[1:]}
    assert set(metrics) == names
    for name, value in metrics.items():
        if name.endswith("/unseen"):
            assert np.isnan(value)
        else:
            assert value == pytest.approx(1.0), name


def shaken(source, seed):
    """Results that are partly right, for every image."""
    rng = np.random.default_rng(seed)
    results = {}
    for example in source.examples:
        result = perfect(example)
        masks = np.roll(result["masks"], rng.integers(0, 9), axis=2).astype(bool)
        keypoints = result["keypoints"] + rng.normal(0, 3, result["keypoints"].shape).astype(np.float32)
        boxes = result["boxes"] + rng.normal(0, 4, (3, 4)).astype(np.float32)
        results[example["image_id"]] = result | {
            "masks": masks,
            "keypoints": keypoints,
            "boxes": boxes,
            "scores": rng.random(3),
        }
    return results


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_pycocotools_on_files(tmp_path, capsys):
    """The exported set and the results file, scored as anybody would with pycocotools alone."""
    source = Everything()
    path, _ = export_coco(source, tmp_path)
    exported = CocoSource(path, tmp_path / "images")
    evaluator = CocoEvaluator(exported)
    for image_id, result in shaken(source, 0).items():
        evaluator.update(image_id, result)
    metrics = evaluator.compute()
    rows = json.loads(json.dumps(evaluator.results()))
    truth = COCO(str(path))
    for prefix, kind, field in (
        ("box", "bbox", "bbox"),
        ("mask", "segm", "segmentation"),
        ("keypoint", "keypoints", "keypoints"),
    ):
        kept = [{k: row[k] for k in ("image_id", "category_id", "score", field)} for row in rows]
        evaluation = COCOeval(truth, truth.loadRes(kept), kind)
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = source.sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        statistics = KEYPOINT_STATISTICS if kind == "keypoints" else STATISTICS
        ours = [metrics[f"{prefix}/{name}"] for name in statistics]
        np.testing.assert_allclose(ours, evaluation.stats, atol=1e-12)
        assert 0.05 < ours[0] < 0.95
    capsys.readouterr()


def test_results_carry_category_ids():
    source = Everything()
    evaluator = CocoEvaluator(source)
    evaluator.update(101, perfect(source.examples[1]))
    rows = evaluator.results()
    assert [row["category_id"] for row in rows] == [11, 12, 13] and {row["image_id"] for row in rows} == {101}
    assert set(rows[0]) == {"image_id", "category_id", "score", "bbox", "segmentation", "keypoints"}
    x1, y1, x2, y2 = source.examples[1]["boxes"][0]
    assert rows[0]["bbox"] == [x1, y1, x2 - x1, y2 - y1]


def test_parts_merge_and_an_image_twice_counts_once():
    source = Everything()
    results = shaken(source, 1)
    whole, first, second = (CocoEvaluator(source) for _ in range(3))
    for k, (image_id, result) in enumerate(results.items()):
        whole.update(image_id, result)
        whole.update(image_id, result)
        (first if k < 1 else second).update(image_id, result)
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.compute() == pytest.approx(whole.compute(), nan_ok=True)
    assert second.compute()["box/AP"] != pytest.approx(whole.compute()["box/AP"])


def test_no_detections_score_zero_and_images_not_given_do_not_count():
    source = Everything()
    nothing = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "scores": np.zeros(0)}
    nothing |= {"masks": np.zeros((0, *SIZE), bool), "keypoints": np.zeros((0, 3, 3))}
    evaluator = CocoEvaluator(source)
    evaluator.update(100, nothing)
    metrics = evaluator.compute()
    assert metrics["box/AP"] == metrics["mask/AP"] == metrics["keypoint/AP"] == metrics["box/AR100"] == 0
    assert evaluator.results() == []
    evaluator.update(101, perfect(source.examples[1]))
    assert evaluator.compute()["box/AP"] == pytest.approx(0.5, abs=0.01)  # half of the recall, not a quarter


def test_masks_are_scored_only_where_results_carry_them():
    source = Everything()
    evaluator = CocoEvaluator(source)
    evaluator.update(100, {k: v for k, v in perfect(source.examples[0]).items() if k != "masks"})
    assert {name.split("/")[0] for name in evaluator.compute()} == {"box", "keypoint"}
    evaluator.update(101, perfect(source.examples[1]))
    with pytest.raises(ValueError, match=r"images \[100\] were given detections without masks"):
        evaluator.compute()
    boxes_only = CocoEvaluator(source, iou_types=("boxes",))
    boxes_only.update(101, perfect(source.examples[1]))
    assert {name.split("/")[0] for name in boxes_only.compute()} == {"box"}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"boxes": np.zeros((3, 5))}, r"boxes have shape \(3, 5\), expected \(3, 4\)"),
        ({"scores": np.zeros(2)}, "scores have shape"),
        ({"scores": np.array([1, np.nan, 0])}, "scores hold NaN"),
        ({"classes": np.array([1, 0, 2])}, r"row 1: class 0, expected 1\.\.4"),
        ({"classes": np.array([1, 5, 2])}, "row 1: class 5"),
        ({"masks": np.zeros((3, *SIZE[::-1]), bool)}, "masks have shape"),
        ({"keypoints": np.zeros((3, 2, 3))}, "keypoints have shape"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    source = Everything()
    with pytest.raises(ValueError, match=message):
        CocoEvaluator(source).update(100, perfect(source.examples[0]) | changes)


def test_misuse_is_named():
    source = Everything()
    with pytest.raises(ValueError, match="image 7 is not in boxes"):
        CocoEvaluator(source).update(7, perfect(source.examples[0]))
    with pytest.raises(ValueError, match="unknown iou_types"):
        CocoEvaluator(source, iou_types=("bbox",))
    with pytest.raises(ValueError, match="nothing to score"):
        CocoEvaluator(source).compute()
    source.sigmas = None
    evaluator = CocoEvaluator(source)
    evaluator.update(100, perfect(source.examples[0]))
    with pytest.raises(ValueError, match="no sigmas"):
        evaluator.compute()
