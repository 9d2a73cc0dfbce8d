"""How well the joints of a person are found: PCK, PDJ and PCP.

PCK: Yang & Ramanan, Articulated Human Detection with Flexible Mixtures of Parts, PAMI 2013. PDJ: Sapp & Taskar, MODEC, CVPR
2013, and Toshev & Szegedy, DeepPose, CVPR 2014. PCP: Ferrari, Marin-Jimenez & Zisserman, Progressive Search Space Reduction
for Human Pose Estimation, CVPR 2008.
"""

from collections.abc import Sequence

import numpy as np

from jaxvision.metrics.voc import mean_of_known

TORSO = ("left_shoulder", "right_hip")  # whose distance is the torso's diameter
# The ten sticks of Leeds Sports Pose; an end of several joints is the middle between them.
LIMBS = {
    "torso": (("neck",), ("left_hip", "right_hip")),
    "head": (("neck",), ("head_top",)),
    **{
        f"{side}_{limb}": ((f"{side}_{inner}",), (f"{side}_{outer}",))
        for side in ("left", "right")
        for limb, inner, outer in (
            ("upper_arm", "shoulder", "elbow"),
            ("forearm", "elbow", "wrist"),
            ("thigh", "hip", "knee"),
            ("shin", "knee", "ankle"),
        )
    },
}


class PoseScores:
    """Distances of predicted joints from the true ones, one person an image.

    names: of the joints. visible: count the visible joints alone; otherwise hidden ones too, whose place is known. Joints
    that are not labelled count nowhere, nor what is measured in torsos where an end of the torso is not labelled.
    A share is first taken of each joint (or limb) over the images, then the mean of those that some image shows.
    """

    def __init__(self, names: Sequence[str], visible: bool = False):
        self.names, self.least = tuple(names), 2 if visible else 1
        self.torso = [self.names.index(name) for name in TORSO] if set(TORSO) <= set(self.names) else None
        known = {limb: ends for limb, ends in LIMBS.items() if set(sum(ends, ())) <= set(self.names)}
        self.limbs = {limb: [[self.names.index(n) for n in end] for end in ends] for limb, ends in known.items()}
        self.rows = []  # of each image: distances (K,), longer side, torso, and of each limb's two ends distances / length

    def update(self, joints, truth, box) -> None:
        """Adds a person: predicted joints (K, 2 or 3), truth (K, 3) x y visibility, and box (4,) x1 y1 x2 y2, all in pixels.

        Raises ValueError for other shapes and predictions that are not finite.
        """
        joints, truth, box = (np.asarray(array, np.float64) for array in (joints, truth, box))
        count = len(self.names)
        if joints.shape not in ((count, 2), (count, 3)) or truth.shape != (count, 3) or box.shape != (4,):
            raise ValueError(
                f"joints, truth and box have shapes {joints.shape}, {truth.shape}, {box.shape}; expected ({count}, 2), "
                f"({count}, 3) and (4,)"
            )
        if not np.isfinite(joints).all():
            raise ValueError(
                f"joint {self.names[np.argwhere(~np.isfinite(joints))[0, 0]]} is predicted as NaN or infinity"
            )
        places = np.where(truth[:, 2:] >= self.least, truth[:, :2], np.nan)
        found = joints[:, :2]
        labelled = np.where(truth[:, 2:] > 0, truth[:, :2], np.nan)  # a hidden end of the torso measures it too
        torso = np.linalg.norm(np.subtract(*labelled[self.torso])) if self.torso else np.nan
        limbs = np.full((len(self.limbs), 2), np.nan)
        for row, ends in zip(limbs, self.limbs.values()):
            true, own = (np.stack([points[end].mean(0) for end in ends]) for points in (places, found))
            length = np.linalg.norm(true[1] - true[0])
            if length > 0:
                row[:] = np.linalg.norm(own - true, axis=1) / length
        self.rows.append((np.linalg.norm(found - places, axis=1), (box[2:] - box[:2]).max(), torso, limbs))

    def merge(self, other: "PoseScores") -> None:
        self.rows += other.rows

    def pck(self, share: float, norm: str = "box") -> np.ndarray:
        """(K,) of each joint the share of images where it is off by less than `share` of the box's longer side, or with
        norm="torso" of the torso's diameter; nan for a joint that no image shows."""
        distances, sides, torsos, _ = self._columns()
        norms = sides if norm == "box" else torsos
        return _share(distances < share * norms[:, None], distances + norms[:, None])

    def pdj(self, share: float) -> np.ndarray:
        """(K,) the same for at most `share` of the torso's diameter."""
        distances, _, torsos, _ = self._columns()
        return _share(distances <= share * torsos[:, None], distances + torsos[:, None])

    def pcp(self, strict: bool = True, share: float = 0.5) -> np.ndarray:
        """(L,) of each limb the share of images where both its ends (strict), or the mean of both, are off by at most `share`
        of its length."""
        ends = self._columns()[3]
        return _share((ends.max(2) if strict else ends.mean(2)) <= share, ends.sum(2))

    def compute(self) -> dict[str, float]:
        """`pck@0.2` (of the box's longer side), `pck_torso@0.2`, `pdj@0.2`, `pcp` (strict), `pcp_loose`.

        nan where the names have no torso or no limb. Raises ValueError if no labelled joint was given.
        """
        if not self.rows or np.isnan(self._columns()[0]).all():
            raise ValueError("no labelled joint was given, so there is nothing to score")
        scores = {
            "pck@0.2": self.pck(0.2),
            "pck_torso@0.2": self.pck(0.2, "torso"),
            "pdj@0.2": self.pdj(0.2),
            "pcp": self.pcp(),
            "pcp_loose": self.pcp(strict=False),
        }
        return {name: mean_of_known(values) for name, values in scores.items()}

    def _columns(self):
        return [np.array(column) for column in zip(*self.rows)]


def _share(right, known):
    """The mean over images of `right` (n, K) where `known` (n, K) is a number; nan where none is."""
    counted = ~np.isnan(known)
    total = counted.sum(0)
    return np.divide((right & counted).sum(0), total, out=np.full(len(total), np.nan), where=total > 0)
