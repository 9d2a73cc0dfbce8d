import numpy as np
import pytest
from tiny import Rectangles, tiny_config

from jaxvision.data.geometry import MEAN_COLOUR
from jaxvision.data.loader import Batches, load
from jaxvision.data.mix_up import MixUp
from jaxvision.train.stages import run


class Share:
    def beta(self, *alphas):
        assert alphas == (0.4, 0.4)
        return 0.25


def row(value, label, size, dtype=np.uint8):
    image = np.zeros((4, 6, 3), dtype)
    image[: size[0], : size[1]] = value
    return {"image": image, "image_size": np.array(size, np.int32), "label": np.int32(label)}


def test_by_hand():
    own, other = row(200, 3, (4, 3)), row(41, 1, (2, 6))
    found = MixUp(0.4)(own, other, Share())
    ground = np.array(MEAN_COLOUR)
    wanted = np.empty((4, 6, 3))
    wanted[:2, :3] = 0.25 * 200 + 0.75 * 41
    wanted[2:, :3] = 0.25 * 200 + 0.75 * ground
    wanted[:2, 3:] = 0.25 * ground + 0.75 * 41
    wanted[2:, 3:] = ground
    np.testing.assert_array_equal(found["image"], np.rint(wanted).astype(np.uint8))
    assert found["image_size"].tolist() == [4, 6] and found["mix"] == 0.25
    assert found["label"] == 3 and found["other_label"] == 1 and "other_labels" not in found
    assert own["image"][0, 0, 0] == 200 and "mix" not in own
    floats = MixUp(0.4)(row(0.8, 3, (4, 3), np.float32), row(0.4, 1, (2, 6), np.float32), Share())
    np.testing.assert_allclose(floats["image"][0, 0], 0.5, rtol=1e-6)
    np.testing.assert_allclose(floats["image"][3, 5], ground / 255, rtol=1e-6)
    assert floats["image"].dtype == np.float32


def batches(fields=("label",), **options):
    options = {"batch_size": 4, "canvases": [(32, 32)], "seed": 0, "transforms_config": {"mix_up": {}}, **options}
    return Batches(Rectangles(), fields=fields, **options)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def test_each_row_is_mixed_with_the_next_of_its_batch():
    plain = batches(transforms_config={})
    for t in range(3):
        mixed, pure = batches()[t], plain[t]
        np.testing.assert_array_equal(mixed["label"], pure["label"])
        np.testing.assert_array_equal(mixed["other_label"], np.roll(pure["label"], -1))
        assert mixed["mix"].dtype == np.float32 and len(set(mixed["mix"])) == 4
        share = mixed["mix"][:, None, None, None]
        wanted = share * pure["image"] + (1 - share) * np.roll(pure["image"], -1, 0)
        assert np.abs(mixed["image"] - wanted).max() <= 0.5 + 1e-4


def test_batch_t_is_the_same_on_any_number_of_hosts_and_workers():
    whole = batches()
    for t in range(3):
        halves = [batches(part=(host, 2))[t] for host in range(2)]
        assert_same({name: np.concatenate([half[name] for half in halves]) for name in halves[0]}, whole[t])
    for found, t in zip(load(batches(), 1, 3, workers=1), (1, 2)):
        assert_same(found, whole[t])


def test_an_evaluation_mixes_nothing():
    assert "mix" not in batches(seed=None)[0]


def test_several_labels_are_those_of_both():
    mixed = batches(("labels",), transforms_config={"mix_up": {"alpha": 1.0}})[0]
    pure = batches(("labels",), transforms_config={})[0]
    assert mixed["labels"].shape == (4, 3) and mixed["labels"].dtype == bool
    np.testing.assert_array_equal(mixed["other_labels"], np.roll(pure["labels"], -1, 0))


def test_what_cannot_be_meant():
    with pytest.raises(ValueError, match="mix_up: alpha is 0, expected a number above 0"):
        MixUp(0)
    with pytest.raises(ValueError, match="takes a classifier and a batch_size of at least 2; here it is 1"):
        batches(batch_size=1)
    with pytest.raises(ValueError, match="the network learns from boxes, classes"):
        batches(("boxes", "classes"))


def test_a_classifier_trains_on_mixed_pictures(prepared, tmp_path):
    data = {"transforms": {"mix_up": {"alpha": 1.0}}, "train": "train[:8]", "validation": "validation[:4]"}
    config = tiny_config("resnet", prepared("single"), steps=2, data=data)
    scores = run(config, str(tmp_path))
    assert 0 <= scores["validation"]["top1"] <= 1 and scores["validation"]["loss"] > 0
