import json

import numpy as np
import pytest

from jaxvision import tasks
from jaxvision.data.scenes import open_scenes
from jaxvision.visualize.skeletons import SKELETONS

TASK = tasks.get("keypoint_detection")


@pytest.fixture(scope="module")
def people(prepared):
    return open_scenes("people", "validation", prepared("people"))


def scores(source, moved):
    evaluator = TASK.evaluator(source)
    for i in range(len(source)):
        example = source.annotations(i)
        truth = TASK.truth(example)
        evaluator.update(example["image_id"], truth | {"keypoints": truth["keypoints"] + moved})
    return evaluator.compute()


def test_joints_are_scaled_by_each_axiss_own_ratio():
    prediction = {
        "boxes": np.array([[1, 2, 3, 4], [5, 5, 6, 6]], np.float32),
        "classes": np.array([1, 1]),
        "scores": np.array([0.9, 0.5], np.float32),
        "valid": np.array([True, False]),
        "keypoints": np.array([[[1, 2, 1], [3, 4, 1]], [[0, 0, 1], [0, 0, 1]]], np.float32),
        "keypoint_scores": np.array([[2, 3], [4, 5]], np.float32),
    }
    found = TASK.result(prediction, (32, 64), (64, 192))
    np.testing.assert_array_equal(found["keypoints"], [[[3, 4, 1], [9, 8, 1]]])
    np.testing.assert_array_equal(found["keypoint_scores"], [[2, 3]])
    np.testing.assert_array_equal(found["boxes"], [[3, 4, 9, 8]])
    assert found["keypoints"].dtype == np.float32


def test_scores_fall_with_the_distance_of_the_joints(people):
    found = [scores(people, np.array([moved, 0, 0])) for moved in (0, 4, 12)]
    assert found[0]["keypoint/AP"] == found[0]["box/AP"] == found[2]["box/AP"] == pytest.approx(1, abs=1e-6)
    assert found[0]["keypoint/AP"] > found[1]["keypoint/AP"] > found[2]["keypoint/AP"]
    assert found[2]["keypoint/AP"] < 0.3
    assert TASK.metric in found[0] and not any(name.startswith("mask") for name in found[0])


def test_the_sigmas_are_the_sources(people):
    """With joints ten times as vague, what is wrong now is right."""
    exact = scores(people, np.array([8, 0, 0]))["keypoint/AP"]
    people.sigmas = people.sigmas * 10
    try:
        assert scores(people, np.array([8, 0, 0]))["keypoint/AP"] > 0.9 > exact
    finally:
        del people.sigmas


def test_joints_and_their_skeleton_are_drawn_and_listed(people):
    example = people[0]
    truth = TASK.truth(example)
    names = TASK.class_names(people)
    drawn = TASK.draw(example["image"], truth, names, 0.5)
    hidden = truth | {"keypoints": truth["keypoints"] * [1, 1, 0]}
    assert (drawn != TASK.draw(example["image"], hidden, names, 0.5)).any(-1).mean() > 0.01
    five = truth | {"keypoints": truth["keypoints"][:, :5]}  # no skeleton is known for five
    assert (drawn != TASK.draw(example["image"], five, names, 0.5)).any()
    (row,) = json.loads(json.dumps(TASK.records("a.png", truth, names)))
    np.testing.assert_allclose(np.reshape(row["keypoints"], (14, 3)), truth["keypoints"][0], rtol=1e-6)


def test_no_detection_is_a_result_of_no_rows(people):
    empty = {
        "boxes": np.zeros((3, 4), np.float32),
        "classes": np.zeros(3, int),
        "scores": np.zeros(3, np.float32),
        "valid": np.zeros(3, bool),
        "keypoints": np.zeros((3, 14, 3), np.float32),
        "keypoint_scores": np.zeros((3, 14), np.float32),
    }
    found = TASK.result(empty, (32, 32), (40, 50))
    assert found["keypoints"].shape == (0, 14, 3) and found["keypoint_scores"].shape == (0, 14)
    example = people[0]
    TASK.draw(example["image"], found, TASK.class_names(people), 0.5)
    evaluator = TASK.evaluator(people)
    evaluator.update(example["image_id"], found)
    assert evaluator.compute()["keypoint/AP"] == 0


def test_skeletons_mirror_onto_themselves(people):
    """Left and right change places and the same joints are connected."""
    edges = {frozenset(edge) for edge in SKELETONS[14]}
    places = dict(people.flip_pairs) | {b: a for a, b in people.flip_pairs}
    assert {frozenset(places.get(joint, joint) for joint in edge) for edge in edges} == edges
    for count, pairs in SKELETONS.items():
        assert {joint for edge in pairs for joint in edge} == set(range(count))
