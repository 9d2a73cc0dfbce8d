import collections
import contextlib
import os
import pathlib
import time

import numpy as np
import pytest
from tiny import Rectangles

from jaxvision.data.images import ImageError
from jaxvision.data.loader import Batches, load
from jaxvision.data.validation import ExampleError

FIELDS = ("boxes", "classes", "valid", "masks", "mask_boxes", "semantic")
TRANSFORMS = {"flip": {}, "crop": {"height": 48, "width": 40}}


def make(source=None, seed=0, **options):
    options = {"batch_size": 4, "fields": FIELDS, "canvases": [(32, 32)], "max_boxes": 3, "mask_size": 8, **options}
    return Batches(Rectangles() if source is None else source, seed=seed, **options)


def assert_same(actual, wanted):
    assert len(actual) == len(wanted)
    for a, w in zip(actual, wanted):
        assert a.keys() == w.keys()
        for name in w:
            np.testing.assert_array_equal(a[name], w[name], err_msg=name)
            assert a[name].dtype == w[name].dtype


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batch_t_is_the_same_however_it_is_made(workers):
    batches = make(transforms_config=TRANSFORMS)
    wanted = [batches[t] for t in range(10)]
    assert_same(list(load(batches, 3, 9, workers=workers, prefetch=1 + workers)), wanted[3:9])


@pytest.mark.parametrize("prefetch", [1, 9])
def test_prefetch_and_start_change_nothing(prefetch):
    again = make(transforms_config=TRANSFORMS)
    assert_same(list(load(again, 0, 5, prefetch=prefetch)), [make(transforms_config=TRANSFORMS)[t] for t in range(5)])
    assert list(load(again, 5, 5)) == []


def test_more_workers_than_batches():
    batches = make()
    assert_same(list(load(batches, 1, 2, workers=2)), [batches[1]])


def test_hosts_share_each_batch():
    whole = make(transforms_config=TRANSFORMS)
    parts = [make(transforms_config=TRANSFORMS, part=(host, 2)) for host in range(2)]
    for t in range(5):
        halves = [part[t] for part in parts]
        joined = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
        assert_same([joined], [whole[t]])


def test_seeds_epochs_and_rows_differ():
    batches, other = make(transforms_config=TRANSFORMS), make(seed=1, transforms_config=TRANSFORMS)
    ids = [[b[t]["image_id"].tolist() for t in range(4)] for b in (batches, other)]
    assert ids[0] != ids[1]
    assert ids[0] != [batches[t]["image_id"].tolist() for t in range(4, 8)]
    looks = {}  # the same image in different epochs is transformed differently
    for t in range(12):
        batch = batches[t]
        for image_id, image in zip(batch["image_id"].tolist(), batch["image"]):
            looks.setdefault(image_id, set()).add(image.tobytes())
    assert max(map(len, looks.values())) == 3


def test_chance_differs_by_step_and_by_row():
    def looks(batch_size, steps):
        batches = make(Rectangles(sizes=((64, 64),)), batch_size=batch_size, transforms_config=TRANSFORMS)
        return len({image.tobytes() for t in range(steps) for image in batches[t]["image"]})

    assert looks(1, 4) > 2
    assert looks(4, 1) > 2


def test_an_epoch_holds_every_image_once():
    batches = make(Rectangles(sizes=((64, 64),) * 18))
    assert batches.per_epoch == 4
    for epoch in range(2):
        ids = np.concatenate([batches[4 * epoch + t]["image_id"] for t in range(4)])
        assert len(set(ids.tolist())) == 16
    seen = {i for t in range(40) for i in batches[t]["image_id"].tolist()}
    assert len(seen) == 18  # what one epoch leaves over, another takes


def test_a_set_smaller_than_a_batch():
    batches = make(Rectangles(sizes=((64, 64),) * 3))
    assert sorted(batches[0]["image_id"].tolist()) in [[100, 100, 101, 102], [100, 101, 101, 102], [100, 101, 102, 102]]
    assert batches[0]["real"].all()


def test_evaluation_sees_every_image_once_and_fills_the_last_batch():
    batches = make(Rectangles(sizes=((64, 64),) * 6, counts=(2,)), seed=None)
    made = list(load(batches))
    assert len(made) == len(batches) == 2
    assert [b["image_id"][b["real"]].tolist() for b in made] == [[100, 101, 102, 103], [104, 105]]
    last = made[1]
    np.testing.assert_array_equal(last["real"], [True, True, False, False])
    assert last["image"].shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(last["valid"].any(1), last["real"])
    assert not last["overflow"].any()


def test_canvases_take_the_images_that_are_largest_on_them():
    sizes = [(64, 64), (32, 96), (80, 64), (30, 120), (50, 40), (10, 20)]
    canvases = [(32, 32), (32, 64)]
    batches = make(Rectangles(sizes=sizes), seed=None, canvases=canvases, batch_size=2)
    where = {}
    for batch in load(batches):
        assert batch["image"].shape[1:3] in canvases
        for image_id, real, size in zip(batch["image_id"], batch["real"], batch["image_size"]):
            if real:
                where[int(image_id) - 100] = batch["image"].shape[1:3]
                assert (size <= batch["image"].shape[1:3]).all()
    scale = {i: [min(np.array(c) / s) for c in canvases] for i, s in enumerate(sizes)}
    assert where == {i: canvases[int(np.argmax(s))] for i, s in scale.items()}
    assert collections.Counter(where.values()) == {(32, 32): 3, (32, 64): 3}
    shapes = {make(Rectangles(sizes=sizes), canvases=canvases, batch_size=2)[t]["image"].shape[1:3] for t in range(4)}
    assert shapes == set(canvases)


def test_scales_are_drawn_for_each_batch_in_training_alone():
    source, canvases, scales = Rectangles(sizes=[(64, 96), (96, 64)] * 8), [(64, 96), (96, 64)], (1.0, 0.5, 2.0)
    batches = make(source, canvases=canvases, scales=scales, batch_size=2)
    shapes = collections.Counter(batches[t]["image"].shape[1:3] for t in range(60))
    assert set(shapes) == {(64, 96), (32, 64), (128, 192), (96, 64), (64, 32), (192, 128)}  # 48 rounds to 64: even ties
    assert min(shapes.values()) > 2
    assert_same([batches[7]], [make(source, canvases=canvases, scales=scales, batch_size=2)[7]])
    still = make(source, canvases=canvases, scales=scales, batch_size=2, seed=None)
    assert {batch["image"].shape[1:3] for batch in load(still)} == set(canvases)
    one = make(source, canvases=canvases, batch_size=2)
    assert_same([one[3]], [make(source, canvases=canvases, scales=(1.0,), batch_size=2)[3]])


def test_stretched_images_fill_the_canvas():
    source = Rectangles(sizes=[(40, 80)] * 4, counts=(2,))
    batch = make(source, stretch=True, seed=None, canvases=[(32, 32)])[0]
    assert batch["image_size"].tolist() == [[32, 32]] * 4 and batch["original_size"].tolist() == [[40, 80]] * 4
    wanted = np.stack([source.annotations(i)["boxes"] for i in range(4)]) * [0.4, 0.8, 0.4, 0.8]
    np.testing.assert_allclose(batch["boxes"][:, :2], wanted, rtol=1e-6)
    assert (batch["semantic"] < 255).all()


def test_copy_paste_brings_objects_of_other_images():
    """Pixels of both pictures, as many as chance has it; the same however the batch is made."""
    config = {"copy_paste": {"probability": 1.0}, "flip": {}}
    batches, plain = make(transforms_config=config, max_boxes=6), make(max_boxes=6)
    assert_same(list(load(batches, 0, 4, workers=1)), [batches[t] for t in range(4)])
    counts, own = (np.concatenate([b[t]["valid"].sum(1) for t in range(8)]) for b in (batches, plain))
    assert (counts > own).sum() > 5
    ids = [[b[t]["image_id"].tolist() for t in range(8)] for b in (batches, plain)]
    assert ids[0] == ids[1]


class Overlapping(Rectangles):
    """Each class's pixels are all that its rectangles cover."""

    overlapping = True

    def annotations(self, index):
        example = super().annotations(index)
        labels = np.zeros((*example["semantic"].shape, 4), bool)
        for label, mask in zip(example["classes"], example["masks"]):
            labels[mask > 0, label] = True
        labels[..., 0] = ~labels.any(-1)
        return {**example, "semantic_labels": labels}


def test_overlapping_labels_stay_on_their_pixels_and_go_to_segmenters_alone():
    """Also where the picture is flipped, cut, scaled and padded: the class on top is one of a pixel's, and of one class the
    map says all."""
    sizes = ((64, 64), (40, 60)) * 8
    seen = 0
    for options in ({"seed": None}, {"transforms_config": {**TRANSFORMS, "random_scale": {}, "elastic": {"sigma": 2}}}):
        batches = make(Overlapping(sizes, (3,)), canvases=[(32, 48)], fields=("semantic",), **options)
        for batch in (batches[t] for t in range(4)):
            labels, semantic = batch["semantic_labels"], batch["semantic"]
            assert labels.shape == (4, 32, 48, 4) and labels.dtype == bool
            counted = semantic != 255
            assert not labels[~counted].any() and not counted.all()
            top = np.take_along_axis(labels, np.where(counted, semantic, 0)[..., None], -1)[..., 0]
            assert top[counted].all()
            np.testing.assert_array_equal(labels[..., 0] & counted, semantic == 0)
            one = labels.sum(-1) == 1
            np.testing.assert_array_equal(labels.argmax(-1)[one], semantic[one])
            seen += (labels.sum(-1) > 1).sum()
    assert seen > 1000
    for source, fields in ((Overlapping(), ("label",)), (Rectangles(), ("semantic",))):
        assert "semantic_labels" not in make(source, fields=fields)[0]


def test_skip_bad_takes_the_next_and_counts():
    source = Rectangles(sizes=((64, 64),) * 4, broken=(1, 2))
    batch = make(source, skip_bad=True)[0]
    assert sorted(batch["image_id"].tolist()) == [100, 103, 103, 103]
    assert sorted(batch["skipped"].tolist()) == [0, 0, 1, 2]
    assert batch["real"].all()
    with pytest.raises(ValueError, match=r"No image of 'rectangles' can be used.*cut off"):
        make(Rectangles(sizes=((64, 64),) * 4, broken=range(4)), skip_bad=True)[0]


def test_skip_bad_in_an_evaluation_counts_no_image_twice():
    batch = make(Rectangles(sizes=((64, 64),) * 3, broken=(1,), counts=(2,)), seed=None, skip_bad=True)[0]
    assert batch["image_id"][batch["real"]].tolist() == [100, 102]
    np.testing.assert_array_equal(batch["real"], [True, False, True, False])
    np.testing.assert_array_equal(batch["valid"].any(1), batch["real"])
    assert batch["skipped"].tolist() == [0, 1, 0, 0]


def test_a_bad_image_names_its_file():
    with pytest.raises(ImageError, match=r"rectangle_2\.png: the PNG is cut off"):
        make(Rectangles(broken=(2,)), seed=None)[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_names_its_file_out_of_a_worker(workers):
    with pytest.raises(ValueError, match=r"rectangle_2\.png: the PNG is cut off"):
        list(load(make(Rectangles(broken=(2,)), seed=None), workers=workers))


class Wrong(Rectangles):
    def annotations(self, index):
        return {**super().annotations(index), "classes": np.zeros(self.counts[index % len(self.counts)], np.int32)}


def test_examples_are_checked():
    with pytest.raises(ExampleError, match=r"image 100 \(rectangle_0.png\).*label 0 is background"):
        make(Wrong(), seed=None)[0]


def test_overflow_is_counted():
    batch = make(Rectangles(counts=(5, 0, 3, 4)), seed=None)[0]
    assert batch["overflow"].tolist() == [2, 0, 0, 1]
    assert batch["valid"].sum(1).tolist() == [3, 0, 3, 3]


def test_what_cannot_be_meant_is_an_error():
    with pytest.raises(ValueError, match="'rectangles' has no images"):
        make(Rectangles(sizes=()))
    with pytest.raises(ValueError, match="batch_size 4 cannot be divided among 3 hosts"):
        make(part=(0, 3))
    unsized = Rectangles()
    unsized.sizes = None
    unsized.__class__ = type("Unsized", (Rectangles,), {"__len__": lambda self: 16})
    with pytest.raises(ValueError, match="does not know its image sizes"):
        make(unsized, canvases=[(32, 32), (32, 64)])


def workers_below() -> set[int]:
    """The worker processes below this one."""
    parents, spawned = {}, set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents[int(name)] = int(pathlib.Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
            if b"spawn_main" in pathlib.Path("/proc", name, "cmdline").read_bytes():
                spawned.add(int(name))
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found & spawned


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes where Linux shows them")
def test_worker_processes_end_with_the_iterator():
    iterator = load(make(), 0, 1000, workers=1)
    next(iterator)
    assert workers_below()
    iterator.close()
    deadline = time.monotonic() + 20
    while workers_below() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers_below()


def test_a_label_beyond_those_of_a_source_with_a_background():
    class Labelled(list):
        name, class_names, sizes = "labelled", ("background", "cat", "dog"), None
        keypoint_names = flip_pairs = ()

    def batches(label):
        example = {"image": np.zeros((8, 8, 3), np.uint8), "image_id": 5, "label": label}
        return Batches(Labelled([example]), batch_size=1, fields=("label",), canvases=[(8, 8)])

    assert batches(1)[0]["label"] == 1
    with pytest.raises(ExampleError, match=r"label is 2, expected a whole number in 0..1"):
        batches(2)[0]
