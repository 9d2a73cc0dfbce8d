"""Weak supervision: which labels are left is a matter of seed and image alone, and each kind does what it says."""

import pickle
from collections import Counter

import numpy as np
import pytest
from tiny import Rectangles

from jaxvision.data.geometry import pieces
from jaxvision.data.loader import Batches
from jaxvision.data.sources import rows_by_id
from jaxvision.data.weak import IMAGE_LEVEL, Inaccurate, Incomplete, weaken
from jaxvision.data.wrapper import Wrapper
from jaxvision.train import loop


class Many(Rectangles):
    """Many images with an object each, of which `label` is the class; or maps alone, as segmentation sets have them."""

    def __init__(self, count=400, objects=(1,), only=()):
        super().__init__(((32, 32),) * count, objects)
        self.only = only

    def annotations(self, index):
        example = super().annotations(index)
        if len(example["classes"]):
            example["label"] = int(example["classes"][0]) - 1
        return {k: v for k, v in example.items() if k in ("image_id", "file", *self.only)} if self.only else example

    def __getitem__(self, index):
        return {"image": np.zeros((32, 32, 3), np.uint8), **self.annotations(index)}


def test_incomplete_keeps_a_share_the_same_for_a_seed():
    source = Many()
    few, more, all_of_them = (weaken(source, {"incomplete": {"share": share}}) for share in (0.1, 0.25, 1.0))
    assert (len(few), len(more), len(all_of_them)) == (40, 100, 400)
    assert set(few.image_ids) < set(more.image_ids) < set(all_of_them.image_ids) == set(rows_by_id(source))
    assert few.image_ids == sorted(few.image_ids) == [few[i]["image_id"] for i in range(40)]
    assert rows_by_id(few)[few.image_ids[7]] == 7 and few.sizes.shape == (40, 2)
    other = weaken(source, {"incomplete": {"share": 0.1, "seed": 1}})
    assert len(other) == 40 and len(set(other.image_ids) & set(few.image_ids)) < 20
    copy = pickle.loads(pickle.dumps(few))
    assert copy.image_ids == few.image_ids and copy.name == "rectangles"
    assert len(weaken(source, {"incomplete": {"share": 1e-9}})) == 1
    ids = np.array(list(rows_by_id(source)))
    order = np.random.default_rng(0).permutation(400)
    kept = ids[order][Incomplete(0.1).kept(ids[order])]
    assert set(kept) == set(few.image_ids)  # whatever the order in which the images come


def test_sizes_are_asked_for_only_where_they_are_needed():
    """Of folders of pictures they take a look into each file."""
    asked = []

    class Files(Wrapper):
        @property
        def sizes(self):
            asked.append(self)
            return self.source.sizes

    weak = weaken(Files(Many()), {"incomplete": {"share": 0.1}})
    assert len(Batches(weak, batch_size=4, fields=(), canvases=[(32, 32)])) == 10 and not asked
    assert weak.sizes.shape == (40, 2) and asked


def test_every_epoch_sees_the_same_images_and_wrong_labels():
    source = weaken(Many(40), {"incomplete": {"share": 0.2}, "inaccurate": {"rate": 0.5}})
    batches = Batches(source, batch_size=4, fields=("label",), canvases=[(32, 32)], seed=3)
    seen = [dict(zip(b["image_id"].tolist(), b["label"].tolist())) for b in (batches[t] for t in range(8))]
    epochs = [{**seen[t], **seen[t + 1]} for t in range(0, 8, 2)]
    assert all(epoch == epochs[0] for epoch in epochs) and len(epochs[0]) == 8
    truth = {100 + i: Many(40).annotations(i)["label"] for i in range(40)}
    assert any(truth[i] != label for i, label in epochs[0].items())


def test_inaccurate_flips_at_the_rate_to_all_others_alike():
    source = Many(1500, (2,))
    weak = weaken(source, {"inaccurate": {"rate": 0.3}})
    pairs = Counter()
    for i in range(len(source)):
        pairs.update(zip(source.annotations(i)["classes"].tolist(), weak.annotations(i)["classes"].tolist()))
    wrong = sum(n for (old, new), n in pairs.items() if old != new)
    assert 0.28 < wrong / 3000 < 0.32 and {new for _, new in pairs} == {1, 2, 3}
    for old in (1, 2, 3):
        others = [pairs[old, new] for new in (1, 2, 3) if new != old]
        assert 0.4 < others[0] / sum(others) < 0.6


def test_wrong_labels_of_a_rate_are_among_those_of_a_higher_one():
    source = Many(300)
    low, high, all_wrong, other = (
        [weaken(source, {"inaccurate": settings}).annotations(i)["label"] for i in range(300)]
        for settings in ({"rate": 0.1}, {"rate": 0.4}, {"rate": 1.0}, {"rate": 0.1, "seed": 1})
    )
    truth = [source.annotations(i)["label"] for i in range(300)]
    changed = {i for i in range(300) if low[i] != truth[i]}
    assert 0 < len(changed) < 60 and all(low[i] == high[i] for i in changed)
    assert not any(a == b for a, b in zip(all_wrong, truth)) and low != other


def test_a_flipped_class_shows_wherever_the_class_does():
    source = Many(60, (3,))
    weak = weaken(source, {"inaccurate": {"rate": 0.5}})
    for i in range(60):
        old, new = source.annotations(i), weak.annotations(i)
        assert new["label"] == new["classes"][0] - 1
        for y, x in np.ndindex(32, 32):
            on_top = [k for k in range(3) if old["masks"][k, y, x]]
            wanted = new["classes"][on_top[-1]] if on_top else 0
            found = new["semantic"][y, x]
            # Of two objects of a class that overlap either may have painted the pixel.
            same = {int(new["classes"][k]) for k in on_top if old["classes"][k] == old["semantic"][y, x]}
            assert found == wanted or found in same
        np.testing.assert_array_equal(old["boxes"], new["boxes"])


def test_maps_alone_and_labels_alone_flip_class_by_class():
    maps = Many(200, (2,), ("semantic",))
    weak, moved = weaken(maps, {"inaccurate": {"rate": 0.5}}), 0
    for i in range(200):
        old, new = maps.annotations(i)["semantic"], weak.annotations(i)["semantic"]
        assert ((old == 0) == (new == 0)).all()
        for c in np.setdiff1d(old, [0]):
            assert len(np.unique(new[old == c])) == 1
            moved += new[old == c][0] != c
    assert 100 < moved < 250
    example = {"image_id": 5, "labels": np.array([True, False, True])}
    flipped = Inaccurate(1.0)(example, maps)["labels"]
    assert flipped.dtype == bool and 1 <= flipped.sum() <= 2 and example["labels"].tolist() == [True, False, True]
    ignored = {"image_id": 5, "semantic": np.array([[255, 0, 1]])}
    assert Inaccurate(1.0)(ignored, maps)["semantic"][0, :2].tolist() == [255, 0]


def test_inexact_boxes_are_masks():
    source = Many(20, (3, 0))
    weak = weaken(source, {"inexact": {"level": "box"}})
    for i in range(20):
        old, new = source[i], weak[i]
        semantic = np.zeros((32, 32), int)
        sides = old["boxes"][:, 2:] - old["boxes"][:, :2]
        for k in sorted(range(len(sides)), key=lambda k: -sides[k].prod()):
            x1, y1, x2, y2 = old["boxes"][k].astype(int)
            semantic[y1:y2, x1:x2] = old["classes"][k]
            mask = np.zeros((32, 32))
            mask[y1:y2, x1:x2] = 1
            np.testing.assert_array_equal(new["masks"][k], mask)
            assert new["area"][k] == mask.sum()
        np.testing.assert_array_equal(new["semantic"], semantic)
        np.testing.assert_array_equal(new["boxes"], old["boxes"])


def test_boxes_around_the_pieces_of_a_map():
    semantic = np.zeros((10, 12), np.int32)
    semantic[1:4, 2:5] = [[1, 1, 0], [0, 1, 0], [0, 1, 1]]
    semantic[6:9, 6:8], semantic[0, 11], semantic[9] = 1, 2, 255
    boxes, classes = pieces(semantic)
    assert boxes.tolist() == [[2, 1, 5, 4], [6, 6, 8, 9], [11, 0, 12, 1]] and classes.tolist() == [1, 1, 2]
    source = Many(2, only=("semantic",))
    weak = weaken(source, {"inexact": {"level": "box"}}).annotations(0)["semantic"]
    np.testing.assert_array_equal(weak, source.annotations(0)["semantic"])  # one rectangle is its own box


def test_inexact_images_have_their_classes_and_nothing_else():
    source = Many(20, (2, 0, 1))
    weak = weaken(source, {"inexact": {"level": "image"}})
    for i in range(20):
        example = weak[i]
        assert example.keys() <= set(IMAGE_LEVEL)
        wanted = [c + 1 in source.annotations(i)["classes"] for c in range(3)]
        assert example["labels"].dtype == bool and example["labels"].tolist() == wanted
    maps = weaken(Many(20, (2, 0, 1), ("semantic",)), {"inexact": {}})
    assert maps[1]["labels"].tolist() == [False] * 3
    assert maps[0]["labels"].tolist() == [c in source.annotations(0)["semantic"] for c in (1, 2, 3)]
    only = weaken(Many(3, only=("label",)), {"inexact": {}})[0]
    assert only["labels"].tolist() == [c == only["label"] for c in range(3)]


def test_kinds_go_together_and_the_labels_that_are_validated_stay_right():
    """Flipped first, then coarse: the boxes' maps have the wrong classes."""
    settings = {"inexact": {"level": "box"}, "inaccurate": {"rate": 1.0}, "incomplete": {"share": 0.5}}
    weak = weaken(Many(20), settings)
    assert len(weak) == 10
    for i in range(10):
        example, row = weak[i], rows_by_id(Many(20))[weak.image_ids[i]]
        assert set(np.unique(example["semantic"])) == {0, int(example["classes"][0])}
        assert example["classes"][0] != Many(20).annotations(row)["classes"][0]
    weak_batches = Batches(weak, batch_size=2, fields=("semantic", "masks", "mask_boxes", "boxes", "classes", "valid"),
                           canvases=[(32, 32)], seed=0)  # fmt: skip
    assert weak_batches[0]["masks"].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"incomplet": {}}, "no kind 'incomplet'; did you mean \"incomplete\""),
        ({"incomplete": {"shares": 0.5}}, "incomplete has no argument 'shares'; did you mean \"share\""),
        ({"incomplete": {"share": 0}}, "share is 0, expected above 0"),
        ({"inaccurate": {"rate": 1.5}}, "rate is 1.5, expected 0..1"),
        ({"inexact": {"level": "scribble"}}, "level 'scribble' is not one of image, box"),
    ],
)
def test_settings_of_weak_labels_that_cannot_be_meant(settings, message):
    with pytest.raises(ValueError, match=message):
        weaken(Many(2), settings)


def test_what_a_set_cannot_give_is_an_error():
    source = Many(2)
    source.class_names = ("road", "sky", "tree", "car")
    with pytest.raises(ValueError, match="rectangles have no background"):
        weaken(source, {"inexact": {"level": "box"}})[0]
    source.class_names = ("background", "thing")
    with pytest.raises(ValueError, match="of 1 class there is no other"):
        weaken(source, {"inaccurate": {"rate": 0.1}})[0]


def test_training_alone_is_weak(scenes_dir):
    from tiny import tiny_config

    from jaxvision import tasks

    config = tiny_config(data_dir=scenes_dir, data={"weak": {"incomplete": {"share": 0.25}}})
    task = tasks.get("segmentation")
    assert len(loop.make_batches(config, "train", task, train=True).source) == 8
    assert len(loop.make_batches(config, "validation", task, train=False).source) == 16


def test_overlapping_labels_can_be_fewer_and_nothing_else():
    source = Many()
    source.overlapping = True
    assert len(weaken(source, {"incomplete": {"share": 0.5}})) == 200
    for kind in ({"inaccurate": {"rate": 0.5}}, {"inexact": {}}):
        with pytest.raises(
            ValueError, match="overlapping labels, as rectangles has them, can be made incomplete alone"
        ):
            weaken(source, kind)
