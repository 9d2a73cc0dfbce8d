"""Pose: the joints of an image's one person."""

import dataclasses

import numpy as np

from jaxvision.data.sources import rows_by_id
from jaxvision.data.validation import check_one_person
from jaxvision.metrics.pose import PoseScores
from jaxvision.tasks import Task
from jaxvision.tasks.report import lines
from jaxvision.visualize.curves import draw_curves
from jaxvision.visualize.pose import draw_pose

SHARES = np.linspace(0, 1, 41)  # of the torso, at which the curves are drawn


class PoseEvaluator:
    """What `PoseScores` scores, and as pictures the curves of PDJ of each joint."""

    def __init__(self, source):
        self.source, self.rows, self.names = source, rows_by_id(source), tuple(source.keypoint_names)
        self.scores = PoseScores(self.names)

    def update(self, image_id, result):
        truth = self.source.annotations(self.rows[int(image_id)])
        person = _person(truth)
        self.scores.update(result["joints"], truth["keypoints"][person], truth["boxes"][person])

    def merge(self, other):
        self.scores.merge(other.scores)

    def compute(self):
        return self.scores.compute()

    def report(self):
        """A line for each joint and each limb, to be printed."""
        scores, limbs = self.scores, tuple(self.scores.limbs)
        columns = {"pck@0.2": scores.pck(0.2), "pck_torso@0.2": scores.pck(0.2, "torso"), "pdj@0.2": scores.pdj(0.2)}
        found = lines("joint", self.names, columns)
        if limbs:
            found += ["", *lines("limb", limbs, {"pcp": scores.pcp(), "pcp_loose": scores.pcp(strict=False)})]
        return "\n".join(found)

    def pictures(self):
        curves = np.array([self.scores.pdj(share) for share in SHARES]).T
        known = [((), ()) if np.isnan(curve).any() else (SHARES, curve) for curve in curves]
        return {"pdj": draw_curves(known, self.names, ("share of the torso", "PDJ"))}


def _person(example) -> int:
    """The row of the one object that is no crowd and not difficult."""
    count = len(example["boxes"])
    aside = np.zeros(count, bool)
    for name in ("crowd", "difficult"):
        aside |= np.asarray(example.get(name, np.zeros(count)), bool)
    return int(aside.argmin())


def _result(prediction, image_size, original_size):
    """joints (J,3) in pixels of the original."""
    ratio = np.asarray(original_size, np.float32) / np.asarray(image_size, np.float32)
    return {"joints": prediction["joints"] * np.array([ratio[1], ratio[0], 1], np.float32)}


def _records(name, result, names):
    return [
        {"file_name": name, "class_name": names[-1], "keypoints": np.asarray(result["joints"], float).ravel().tolist()}
    ]


POSE = Task(
    name="pose",
    fields=("boxes", "classes", "valid", "keypoints"),
    metric="pck@0.2",
    class_names=lambda source: tuple(source.class_names),
    result=_result,
    truth=lambda example: {"joints": example["keypoints"][_person(example)]},
    evaluator=PoseEvaluator,
    draw=lambda image, result, names, threshold=0.5: draw_pose(image, result["joints"]),
    records=_records,
    check=check_one_person,
)
REGION_POSE = dataclasses.replace(  # of networks that look at a box around the person
    POSE, name="region_pose", fields=(*POSE.fields, "proposals", "proposals_valid")
)
