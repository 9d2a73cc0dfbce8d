"""What R-CNN and SPP-net fit on the host when their network is tuned: a linear SVM and a box regression for each class.

Girshick et al., CVPR 2014, section 2.3 and appendices B and C, with the constants of the authors' code. Both are fitted on
features whose mean norm is brought to 20, which is then put into the weights, so that the parameters belong to the features
as they are.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
import tqdm
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from jaxvision.data.loader import Batches, load
from jaxvision.data.overlaps import iou
from jaxvision.ops import boxes as box_ops

NORM = 20.0  # of features, on average
NORM_IMAGES = 200  # that this average is taken over
STEP = 32  # numbers of regions that features are compiled for are multiples of it


def svm_negatives(proposals: np.ndarray, boxes: np.ndarray, classes: np.ndarray, num_classes: int, below: float = 0.3):
    """(P, num_classes - 1) bool: whether a proposal (P,4) is a negative of class k + 1, overlapping each of that class's
    boxes (N,4), of classes (N,), by an IoU under `below`. Where an image has none of a class, all are."""
    overlaps = iou(proposals, boxes)
    same = classes[:, None] == np.arange(1, num_classes)
    return ~((overlaps >= below)[:, :, None] & same).any(1)


def regression_pairs(proposals: np.ndarray, boxes: np.ndarray, above: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """(rows of proposals (P,4), rows of boxes (N,4)): the proposals that overlap some box by an IoU over `above`, each with
    the one that it overlaps best (the first of equals)."""
    if not len(boxes):
        return np.zeros((2, 0), int)
    overlaps = iou(proposals, boxes)
    rows = np.flatnonzero(overlaps.max(1) > above)
    return rows, overlaps[rows].argmax(1)


def without_duplicates(boxes: np.ndarray, most: float) -> np.ndarray:
    """The rows of boxes (N,4) that overlap no row kept before them by an IoU over `most`."""
    kept, overlaps = [], iou(boxes, boxes)
    for row in range(len(boxes)):
        if not (overlaps[row, kept] > most).any():
            kept.append(row)
    return np.array(kept, int)


def fit_svm(
    positives: np.ndarray, negatives: np.ndarray, C: float = 1e-3, bias: float = 10.0, weight: float = 2.0
) -> tuple[np.ndarray, float]:
    """(weights (D,), intercept) of liblinear's SVM with the hinge loss between rows (n,D) and (m,D).

    bias: the constant feature behind the intercept, which is penalised as the other weights are; weight: of positives.
    """
    machine = LinearSVC(
        C=C,
        loss="hinge",
        dual=True,
        intercept_scaling=bias,
        class_weight={1: weight},
        random_state=0,
        max_iter=20_000,
    )
    labels = np.repeat([1, -1], (len(positives), len(negatives)))
    machine.fit(np.concatenate([positives, negatives]), labels)
    return machine.coef_[0], float(machine.intercept_[0])


def fit_ridge(features: np.ndarray, targets: np.ndarray, strength: float = 1000.0) -> tuple[np.ndarray, np.ndarray]:
    """(weights (D,T), intercepts (T,)) of the ridge regression of targets (n,T), centred, on features (n,D) and a 1.

    As in the authors' code the weight of the 1 is penalised too. They also whiten the targets, which changes nothing: a
    ridge regression of a linear map of the targets is that map of the regression.
    """
    mean = targets.mean(0)
    features = np.concatenate([features, np.ones((len(features), 1))], 1)
    weights = Ridge(alpha=strength, fit_intercept=False, solver="cholesky").fit(features, targets - mean).coef_
    return weights[:, :-1].T, weights[:, -1] + mean


class MinedSVM:
    """One class's SVM, refitted as hard negatives come: those with a margin above `hard`, beside the ones it keeps.

    Before the first fit all negatives are hard. After a fit those with a margin below `easy` are let go. It is refitted when
    `every` new ones have come.
    """

    def __init__(self, positives: np.ndarray, every: int = 2000, hard: float = -1.0001, easy: float = -1.2):
        self.positives, self.every, self.hard, self.easy = positives, every, hard, easy
        self.kept, self.new, self.count = np.zeros((0, positives.shape[1]), np.float32), [], 0
        self.weights = None

    def select(self, features: np.ndarray) -> np.ndarray:
        """Which of the negatives (n,D) are hard: rows."""
        if self.weights is None:
            return np.arange(len(features))
        return np.flatnonzero(features @ self.weights + self.intercept > self.hard)

    def add(self, features: np.ndarray) -> None:
        self.new.append(features)
        self.count += len(features)
        if self.count >= self.every:
            self.fit()

    def fit(self) -> None:
        """Does nothing where no negative has come since the last time."""
        if not self.count:
            return
        self.kept, self.new, self.count = np.concatenate([self.kept, *self.new]), [], 0
        self.weights, self.intercept = fit_svm(self.positives, self.kept)
        self.kept = self.kept[self.kept @ self.weights + self.intercept >= self.easy]


def fit_svms(
    architecture, variables: Mapping, batches: Batches, below: float = 0.3, duplicates: float | None = None
) -> dict:
    """The variables with SVMs of all classes, after one pass over the images.

    Positives are the objects, negatives proposals as `svm_negatives` has them; objects that are not learnt from, such as
    crowds, are neither. duplicates: of an image's hard negatives of a class those that overlap an earlier one by more are
    left out.
    Raises ValueError for a class without an object.
    """
    describe = _describe(architecture, variables, 1)
    names = batches.source.class_names
    scale, positives = NORM / _mean_norm(describe, batches), [[] for _ in names[1:]]
    for batch, i, features in _features(
        describe, batches, lambda batch, i: batch["boxes"][i][batch["valid"][i]], "objects"
    ):
        for row, label in zip(features, batch["classes"][i][batch["valid"][i]]):
            positives[label - 1].append(row * scale)
    missing = [name for name, rows in zip(names[1:], positives) if not rows]
    if missing:
        raise ValueError(
            f"No image of {batches.source.name!r} that is learnt from has an object of {', '.join(missing)}: an SVM has "
            "nothing to find. Give more images (data.train), or leave the class out."
        )
    machines = [MinedSVM(np.stack(rows)) for rows in positives]
    for batch, i, features in _features(describe, batches, _proposals, "negatives"):
        proposals, features, known = _proposals(batch, i), features * scale, batch["classes"][i] > 0
        negatives = svm_negatives(proposals, batch["boxes"][i][known], batch["classes"][i][known], len(names), below)
        for machine, negative in zip(machines, negatives.T):
            rows = np.flatnonzero(negative)
            rows = rows[machine.select(features[rows])]
            if duplicates is not None:
                rows = rows[without_duplicates(proposals[rows], duplicates)]
            machine.add(features[rows])
    for name, machine in zip(names[1:], machines):
        machine.fit()
        if machine.weights is None:
            raise ValueError(
                f"No proposal of {batches.source.name!r} is a negative of {name!r}: give more images or proposals."
            )
    kernel = np.stack([machine.weights * scale for machine in machines], 1)
    return _with(variables, "svm", kernel, np.array([machine.intercept for machine in machines]))


def fit_boxes(architecture, variables: Mapping, batches: Batches, directory: str, above: float = 0.6) -> dict:
    """The variables with a box regression of each class, from proposals as `regression_pairs` has them.

    The features wait in files below `directory`. A class without a pair keeps regions as they are.
    """
    describe = _describe(architecture, variables, 0)
    names = batches.source.class_names
    scale = NORM / _mean_norm(describe, batches)
    pairs = [([], []) for _ in names[1:]]

    def paired(batch, i):
        proposals, boxes = _proposals(batch, i), batch["boxes"][i][batch["valid"][i]]
        rows, owners = regression_pairs(proposals, boxes, above)
        return proposals[rows], boxes[owners], batch["classes"][i][batch["valid"][i]][owners]

    with tempfile.TemporaryDirectory(dir=directory) as folder:
        paths = [os.path.join(folder, str(k)) for k in range(len(pairs))]
        for batch, i, features in _features(describe, batches, lambda batch, i: paired(batch, i)[0], "boxes"):
            found, boxes, classes = paired(batch, i)
            for k in np.unique(classes) - 1:
                own = classes == k + 1
                pairs[k][0].append(found[own])
                pairs[k][1].append(boxes[own])
                with open(paths[k], "ab") as file:
                    file.write(features[own].tobytes())
        kernel = np.array(variables["params"]["box"]["kernel"])
        kernel, bias = np.zeros((len(kernel), len(pairs), 4)), np.zeros((len(pairs), 4))
        for k, (found, boxes) in enumerate(pairs):
            if found:
                found, boxes = np.concatenate(found), np.concatenate(boxes)
                features = np.fromfile(paths[k], np.float32).reshape(len(found), -1).astype(np.float64) * scale
                weights, bias[k] = fit_ridge(features, np.asarray(box_ops.encode(boxes, found), np.float64))
                kernel[:, k] = weights * scale
    return _with(variables, "box", kernel.reshape(len(kernel), -1), bias.reshape(-1))


def _with(variables: Mapping, layer: str, kernel: np.ndarray, bias: np.ndarray) -> dict:
    new = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    return {**variables, "params": {**variables["params"], layer: new}}


def _describe(architecture, variables: Mapping, which: int) -> Callable:
    """(batch, regions (B,R,4)) to the regions' features, (B,R,D) numpy; 0: pooled, 1: fc7's."""
    variables = jax.device_put(variables)

    @jax.jit
    def apply(variables, batch, regions):
        return architecture.model.apply(variables, batch, regions, method="features")[which]

    return lambda batch, regions: np.asarray(
        apply(variables, {name: batch[name] for name in ("image", "image_size")}, regions)
    )


def _proposals(batch: Mapping, i: int) -> np.ndarray:
    return batch["proposals"][i][batch["proposals_valid"][i]]


def _features(describe: Callable, batches: Batches, regions: Callable, what: str) -> Iterator[tuple]:
    """(batch, row, features (n,D) of its n regions) of every image; regions: (batch, row) to (n,4)."""
    for batch in tqdm.tqdm(
        load(batches), total=len(batches), desc=what, unit="batch", mininterval=5, dynamic_ncols=True
    ):
        rows = [regions(batch, i) for i in range(len(batch["image"]))]
        most = -(-max(map(len, rows)) // STEP) * STEP
        if not most:
            continue
        filled = np.zeros((len(rows), most, 4), np.float32)
        for i, row in enumerate(rows):
            filled[i, : len(row)] = row
        features = describe(batch, filled)
        for i in np.flatnonzero(batch["real"]):
            yield batch, i, features[i, : len(rows[i])]


def _mean_norm(describe: Callable, batches: Batches) -> float:
    """Of the features of proposals in some two hundred images, taken evenly from all."""
    count = min(len(batches), -(-NORM_IMAGES // batches.batch_size))
    norms = []
    for t in np.linspace(0, len(batches) - 1, count).astype(int):
        batch = batches[int(t)]
        valid = batch["proposals_valid"] & batch["real"][:, None]
        norms.append(np.linalg.norm(describe(batch, batch["proposals"])[valid], axis=-1))
    mean = float(np.concatenate(norms).mean())
    if not mean > 0:
        raise ValueError("All features of the proposals are 0: tune the network first, by a stage before this one.")
    return mean
