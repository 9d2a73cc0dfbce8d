import json

import numpy as np
import pytest

from jaxvision import tasks
from jaxvision.data.scenes import open_scenes
from jaxvision.data.validation import ExampleError
from jaxvision.visualize.skeletons import SKELETONS

TASK = tasks.get("pose")


@pytest.fixture(scope="module")
def people(prepared):
    return open_scenes("people", "validation", prepared("people"))


def evaluated(source, moved):
    halves = TASK.evaluator(source), TASK.evaluator(source)
    for i in range(len(source)):
        example = source.annotations(i)
        halves[i % 2].update(example["image_id"], {"joints": example["keypoints"][0] + [moved, 0, 0]})
    halves[0].merge(halves[1])
    return halves[0]


def test_joints_are_scaled_by_each_axiss_own_ratio():
    found = TASK.result({"joints": np.array([[1, 2, 1], [3, 4, 1]], np.float32)}, (32, 64), (64, 192))
    np.testing.assert_array_equal(found["joints"], [[3, 4, 1], [9, 8, 1]])
    assert found["joints"].dtype == np.float32


def test_scores_fall_with_the_distance_of_the_joints(people):
    exact, near, far = (evaluated(people, moved).compute() for moved in (0, 7, 25))
    assert all(value == 1 for value in exact.values())
    for name in exact:
        assert exact[name] >= near[name] > far[name] or near[name] < 1
    assert far["pck@0.2"] == 0 and near["pck@0.2"] > 0.5 and TASK.metric in exact
    assert near["pck_torso@0.2"] < near["pck@0.2"] and near["pcp"] <= near["pcp_loose"]


def test_the_persons_box_and_not_a_crowds_is_the_measure(people):
    class Source:
        name, keypoint_names = "own", people.keypoint_names

        def __len__(self):
            return 1

        def annotations(self, _):
            joints = np.zeros((2, 14, 3))
            joints[1, :] = 50, 50, 2
            boxes = np.array([[0, 0, 1000, 1000], [40, 40, 60, 80]])
            return {"image_id": 1, "boxes": boxes, "keypoints": joints, "crowd": np.array([True, False])}

    for off, share in ((7.9, 1), (8, 0)):
        evaluator = TASK.evaluator(Source())
        evaluator.update(1, {"joints": np.full((14, 3), 50) + [off, 0, 0]})
        assert evaluator.compute()["pck@0.2"] == share


def test_a_table_of_joints_and_limbs_and_the_curves(people):
    evaluator = evaluated(people, 7)
    joints, limbs = evaluator.report().split("\n\n")
    assert [line.split()[0] for line in joints.splitlines()] == ["joint", *people.keypoint_names]
    assert len(limbs.splitlines()) == 11 and limbs.split()[:3] == ["limb", "pcp", "pcp_loose"]
    values = [float(line.split()[1]) for line in joints.splitlines()[1:]]
    assert np.mean(values) == pytest.approx(evaluator.compute()["pck@0.2"], abs=1e-4)
    picture = evaluator.pictures()["pdj"]
    assert picture.dtype == np.uint8 and picture.ndim == 3


def test_the_skeleton_is_drawn_and_joints_are_listed(people):
    example, names = people[0], TASK.class_names(people)
    truth = TASK.truth(example)
    drawn = TASK.draw(example["image"], truth, names, 0.5)
    plain = TASK.draw(example["image"], {"joints": truth["joints"] * [1, 1, 0]}, names, 0.5)
    assert 0.01 < (drawn != plain).any(-1).mean() < 0.5
    [row] = json.loads(json.dumps(TASK.records("a.png", truth, names)))
    np.testing.assert_allclose(np.reshape(row["keypoints"], (14, 3)), truth["joints"], rtol=1e-6)
    assert row["class_name"] == "person"


def test_every_skeleton_reaches_all_its_joints():
    for count, edges in SKELETONS.items():
        assert {joint for edge in edges for joint in edge} == set(range(count))
    assert 11 in SKELETONS  # FLIC's


def test_an_image_that_does_not_show_one_person_is_named(people):
    example = people[0]
    TASK.check(example)
    where = rf"image {example['image_id']} \(scenes/people/validation#0\): "
    none = {k: v[:0] if k in ("boxes", "classes", "crowd", "keypoints") else v for k, v in example.items()}
    two = {
        k: np.concatenate([v, v]) if k in ("boxes", "classes", "crowd", "keypoints") else v for k, v in example.items()
    }
    with pytest.raises(ExampleError, match=where + "there are no persons in it, a pose is that of one"):
        TASK.check(none)
    with pytest.raises(ExampleError, match=where + "there are 2 persons in it"):
        TASK.check(two)
    TASK.check({**two, "crowd": np.array([False, True])})
    with pytest.raises(ExampleError, match=where + "no joint of its person is labelled"):
        TASK.check({**example, "keypoints": example["keypoints"] * 0})
    with pytest.raises(ExampleError, match=where + "there are no keypoints"):
        TASK.check({k: v for k, v in example.items() if k != "keypoints"})
