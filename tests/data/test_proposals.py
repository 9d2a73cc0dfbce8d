import concurrent.futures
import os
import pathlib
import pickle
import runpy

import cv2
import numpy as np
import pytest
from drawn import draw_many
from tiny import Rectangles

from jaxvision.data import proposal_source, proposals, transforms
from jaxvision.data.loader import Batches
from jaxvision.data.proposal_source import cache_path, with_proposals
from jaxvision.data.proposals import SelectiveSearch, SlidingBoxes, build
from jaxvision.data.validation import ExampleError
from jaxvision.metrics.recall import ProposalRecall

ROOT = pathlib.Path(__file__).parents[2]
SEARCH = dict(method="selective_search", strategy="single", base_k=150, width=0, min_size=6, count=40)


class Blocks(Rectangles):
    """Quiet ground, so that the rectangles are regions."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        example["image"] = np.where(example["semantic"][..., None] > 0, example["image"] // 255 * 255, np.uint8(90))
        return example


def test_selective_search_finds_a_block_where_it_is():
    image = np.full((60, 90, 3), 40, np.uint8)
    image[10:40, 20:70] = (250, 30, 30)
    for options in (
        dict(strategy="single"),
        dict(strategy="fast"),
        dict(strategy="quality"),
        dict(width=180, min_size=12),
    ):
        found = SelectiveSearch(**{"base_k": 100, "width": 0, "min_size": 6, **options})(image)
        assert found.dtype == np.float32 and np.abs(found - [20, 10, 70, 40]).max(1).min() <= 2, options
        assert (found[:, :2] >= 0).all() and (found[:, 2:] <= (90, 60)).all()
        assert len(np.unique(found, axis=0)) == len(found)
        np.testing.assert_array_equal(
            SelectiveSearch(**{**vars(build(SEARCH)), **options})(image / np.float32(255)).shape[1], 4
        )


def test_selective_search_is_repeatable_and_limited():
    image = Blocks(counts=(3,))[0]["image"]
    image = np.clip(image + np.random.default_rng(0).integers(-40, 40, image.shape), 0, 255).astype(np.uint8)
    options = dict(width=0, min_size=4, base_k=50)
    first = SelectiveSearch(**options)(image)
    proposals._C.rand()
    cv2.setRNGSeed(5)
    np.testing.assert_array_equal(SelectiveSearch(**options)(image), first)
    other = SelectiveSearch(**options, seed=1)(image)
    assert not np.array_equal(other, first)
    np.testing.assert_array_equal(np.unique(other, axis=0), np.unique(first, axis=0))  # the order alone is drawn
    np.testing.assert_array_equal(SelectiveSearch(**options, count=7)(image), first[:7])
    large = SelectiveSearch(**{**options, "min_size": 20})(image)
    assert len(large) < len(first) and ((large[:, 2:] - large[:, :2]) >= 20).all()


def test_sliding_boxes_cover_the_picture_in_steps():
    boxes = SlidingBoxes(sides=(0.5,), ratios=(1.0,), step=0.5)(np.zeros((40, 80, 3), np.uint8))
    expected = {(x, y, x + 20, y + 20) for x in range(0, 61, 10) for y in range(0, 21, 10)}
    assert set(map(tuple, boxes.tolist())) == expected
    many = SlidingBoxes()(np.zeros((40, 80, 3), np.uint8))
    assert (many[:, :2] >= 0).all() and (many[:, 2:] <= (80, 40)).all() and (many[:, 2:] > many[:, :2]).all()
    np.testing.assert_array_equal(SlidingBoxes(count=5)(np.zeros((40, 80, 3), np.uint8)), many[:5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(method="selectiv_search"), "no method 'selectiv_search'.*selective_search"),
        (dict(), "no method ''"),
        (dict(method="selective_search", base=3), "no setting 'base'.*base_k"),
        (dict(method="selective_search", strategy="quick"), "strategy 'quick'"),
        (dict(method="selective_search", count=0), "positive"),
        (dict(method="sliding_boxes", step=0), "positive"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(ValueError, match=message):
        build(settings)


@pytest.mark.parametrize("workers", [0, 1])
def test_proposals_are_found_once_and_kept(tmp_path, monkeypatch, workers):
    source = Blocks(sizes=((48, 64),) * 3)
    found = with_proposals(source, SEARCH, "blocks:train", str(tmp_path), workers)
    assert os.listdir(tmp_path / "proposals") == [
        os.path.basename(cache_path(source, build(SEARCH), "blocks:train", tmp_path))
    ]
    for i in range(3):
        example = found[i]
        np.testing.assert_array_equal(example["proposals"], build(SEARCH)(example["image"]))
        np.testing.assert_array_equal(example["boxes"], source[i]["boxes"])
    assert len(found) == 3 and found.name == "rectangles" and found.max_proposals == 40
    monkeypatch.setattr(proposal_source, "_find", lambda *_: pytest.fail("it is there already"))
    again = with_proposals(source, SEARCH, "blocks:train", str(tmp_path))
    copy = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(copy[1]["proposals"], found[1]["proposals"])
    assert with_proposals(source, {}, "blocks:train", str(tmp_path)) is source


def test_another_source_or_setting_is_another_file(tmp_path):
    source, method = Blocks(sizes=((64, 64),) * 3), build(SEARCH)
    paths = {
        cache_path(source, method, "blocks:train", tmp_path),
        cache_path(source, method, "blocks:test", tmp_path),
        cache_path(Blocks(sizes=((64, 64),) * 4), method, "blocks:train", tmp_path),
        cache_path(source, build({**SEARCH, "base_k": 151}), "blocks:train", tmp_path),
        cache_path(source, SlidingBoxes(), "blocks:train", tmp_path),
    }
    assert len(paths) == 5
    assert cache_path(source, build(dict(SEARCH)), "blocks:train", tmp_path) in paths


def test_what_is_half_written_is_never_used(tmp_path):
    class Dying(Blocks):
        def __getitem__(self, index):
            if index == 2:
                raise RuntimeError("killed")
            return super().__getitem__(index)

    sizes = ((48, 48),) * 3
    with pytest.raises(RuntimeError, match="killed"):
        with_proposals(Dying(sizes=sizes), SEARCH, "blocks:train", str(tmp_path))
    assert os.listdir(tmp_path / "proposals") == []
    (tmp_path / "proposals" / "blocks_train.array_record.0.partial").write_bytes(b"half")
    found = with_proposals(Blocks(sizes=sizes), SEARCH, "blocks:train", str(tmp_path))
    assert len(found[2]["proposals"])


def test_several_may_search_at_once(tmp_path):
    def search(number):
        return with_proposals(Blocks(sizes=((48, 48),) * 4), SEARCH, "blocks:train", str(tmp_path))[number]

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert [example["image_id"] for example in pool.map(search, range(3))] == [100, 101, 102]
    [name] = os.listdir(tmp_path / "proposals")
    assert name.endswith(".array_record")


def test_an_image_without_proposals_of_its_own_is_named(tmp_path):
    sizes = ((48, 48),) * 3
    found = with_proposals(Blocks(sizes=sizes), SEARCH, "blocks:train", str(tmp_path))
    changed = proposal_source.ProposalSource(Rectangles(sizes=sizes), found.path, 40)
    with pytest.raises(
        ExampleError, match=r"image 101 \(rectangle_1.png\): its proposals are missing.*delete that file"
    ):
        changed[1]
    longer = proposal_source.ProposalSource(Blocks(sizes=((48, 48),) * 5), found.path, 40)
    with pytest.raises(ExampleError, match=r"image 104 .*no proposals of it but those of 3 images"):
        longer[4]
    none = with_proposals(Blocks(sizes=sizes), {**SEARCH, "min_size": 100}, "blocks:train", str(tmp_path))
    with pytest.raises(ExampleError, match=r"image 100 .*nothing is proposed in it; lower data.proposals.min_size"):
        none[0]


def test_an_unusable_image_is_passed_over_as_without_proposals(tmp_path, capsys):
    source = with_proposals(Blocks(sizes=((48, 48),) * 4, broken=(1,)), SEARCH, "blocks:train", str(tmp_path))
    told = capsys.readouterr().out  # before any training, and not when it comes to that image
    assert "In 1 of them, the first being 1 of the split, nothing is proposed, or they cannot be used" in told
    with_proposals(Blocks(sizes=((48, 48),) * 4), SEARCH, "whole:train", str(tmp_path))
    assert "nothing is proposed" not in capsys.readouterr().out
    options = dict(batch_size=2, fields=("boxes", "classes", "valid"), canvases=[(48, 48)], max_boxes=3)
    batch = Batches(source, **options, skip_bad=True)[0]
    assert batch["real"].tolist() == [True, False] and batch["skipped"].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"rectangle_1.png: the PNG is cut off"):
        Batches(source, **options)[0]


def test_batches_carry_proposals_on_the_canvas(tmp_path):
    source = with_proposals(Blocks(sizes=((48, 64),) * 2), SEARCH, "blocks:train", str(tmp_path))
    batch = Batches(source, batch_size=2, fields=("boxes", "classes", "valid"), canvases=[(96, 96)], max_boxes=3)[0]
    assert batch["proposals"].shape == (2, 40, 4) and batch["proposals"].dtype == np.float32
    for i in range(2):
        own = source[i]["proposals"] * 1.5
        np.testing.assert_allclose(batch["proposals"][i][batch["proposals_valid"][i]], own, rtol=1e-6)
        assert batch["proposals_valid"][i].sum() == len(own) and not batch["proposals"][i][len(own) :].any()
    with pytest.raises(ValueError, match=r"'rectangles' have no proposals.*data.proposals"):
        Batches(Blocks(), batch_size=2, fields=("proposals", "proposals_valid"), canvases=[(96, 96)])


def test_proposals_that_vanish_on_the_canvas_are_left_out_and_counted(tmp_path):
    class Given(Rectangles):
        max_proposals = 4

        def __getitem__(self, index):
            return {
                **super().__getitem__(index),
                "proposals": [[0, 0, 30, 30], [5, 5, 7, 60], [9, 9, 40, 13], [1, 2, 20, 30]],
            }

    options = dict(batch_size=1, fields=("boxes", "classes", "valid"), max_boxes=3)
    batch = Batches(Given(sizes=((64, 64),)), canvases=[(16, 16)], **options)[0]
    assert batch["lost_proposals"].tolist() == [1] and batch["proposals_valid"].tolist() == [[True, True, True, False]]
    np.testing.assert_array_equal(
        batch["proposals"][0, :3], np.array([[0, 0, 30, 30], [9, 9, 40, 13], [1, 2, 20, 30]]) / 4
    )


@pytest.mark.parametrize("bad", [[[0, 0, 0, 5]], [[0, 0, np.nan, 5]], [[0, 0, 90, 5]], [[1, 2, 3]]])
def test_wrong_proposals_are_named(bad):
    class Given(Rectangles):
        max_proposals = 4

        def __getitem__(self, index):
            return {**super().__getitem__(index), "proposals": np.array(bad)}

    with pytest.raises(ExampleError, match=r"image 100 .*proposal"):
        Batches(Given(), batch_size=1, fields=(), canvases=[(64, 64)])[0]


@pytest.mark.parametrize(
    "config",
    [
        {"flip": {"probability": 1.0}},
        {"quarter_turn": {}},
        {"crop": {"height": 40, "width": 50}},
        {"scale_jitter": {"low": 0.5, "high": 2.0}},
        {"zoom_out": {"probability": 1.0}},
        {"random_scale": {}},
        {"iou_crop": {}},
    ],
)
def test_proposals_move_with_the_picture(config):
    """Each proposal is the box of an object of its own: what becomes of the one becomes of the other."""
    for number in range(12):
        example = Rectangles(sizes=((64, 80),) * 12, counts=(3,))[number]
        del example["masks"]  # with which a cut object takes the box of what is seen
        example["proposals"] = example["boxes"].copy()
        [transform] = transforms.build(config)
        moved = transform(example, np.random.default_rng(number))
        boxes = set(map(tuple, moved["boxes"].tolist()))
        assert boxes <= set(map(tuple, moved["proposals"].tolist())) and boxes
        if "iou_crop" not in config:  # which drops objects whose centre lies outside
            assert len(moved["proposals"]) == len(moved["boxes"])


def test_pasted_objects_have_no_proposals():
    example = {**Rectangles()[0], "proposals": np.zeros((1, 4))}
    [paste] = transforms.build({"copy_paste": {}})
    with pytest.raises(ValueError, match="copy_paste: proposals are those of the picture as it was"):
        paste(example, np.random.default_rng(0), example)


@pytest.mark.parametrize("recipe", ["rcnn_scenes", "sppnet_scenes", "fast_rcnn_scenes"])
def test_selective_search_covers_the_scenes(recipe, monkeypatch):
    """0.9 of the objects by an IoU of 0.5 with 300 boxes, and none is too small to be proposed; `benchmarks/proposals.py` has
    the table of all of them."""
    monkeypatch.syspath_prepend(str(ROOT))
    settings = runpy.run_path(str(ROOT / "configs" / f"{recipe}.py"))["get_config"]().data.proposals.to_dict()
    recall = ProposalRecall(("background", "object"), (300,))
    search = build(settings)
    for i, example in enumerate(draw_many("shapes", "validation", 12)):
        boxes = np.stack([thing["box"] for thing in example["objects"]])
        recall.update(i, search(example["image"]), {"boxes": boxes, "classes": np.ones(len(boxes))})
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= search.min_size
    assert recall.compute()["recall50@300"] >= 0.9
