"""Leeds Sports Pose, its extension, and FLIC, as they are handed out: one annotated person a picture.

Johnson & Everingham, Clustered Pose and Nonlinear Appearance Models, BMVC 2010, and Learning Effective Human Pose Estimation
from Inaccurate Annotation, CVPR 2011; Sapp & Taskar, MODEC: Multimodal Decomposable Models, CVPR 2013.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision.data import person
from jaxvision.data.images import ImageError, encoded_size, read_bytes, read_image
from jaxvision.data.mask_folder import some
from jaxvision.data.validation import ExampleError

# The joints that FLIC marks, by their columns among the 29 of `coords`.
FLIC_JOINTS = {
    "left_shoulder": 0, "left_elbow": 1, "left_wrist": 2, "right_shoulder": 3, "right_elbow": 4, "right_wrist": 5,
    "left_hip": 6, "right_hip": 9, "left_eye": 12, "right_eye": 13, "nose": 16,
}  # fmt: skip
FLIC_COLUMNS = 29
FLIC_FLIP_PAIRS = ((0, 3), (1, 4), (2, 5), (6, 7), (8, 9))
BODY = 3.0  # side of the square that FLIC's person is looked for in, in longer sides of the torso's box


class PoseFiles:
    """A source of one person a picture: image, boxes (1,4), classes, keypoints (1,K,3), image_id (the place in the list), file.

    joints: (N,K,3) x, y as the set has them, and visibility 0, 1, 2; the box is the smallest around the labelled ones, cut to
    the picture. proposals: (N,4) boxes where the person is looked for, or None.
    On reading raises ImageError for a picture that is missing or broken, and ExampleError, which names it, where fewer than
    two joints are labelled or they have no extent in the picture.
    """

    class_names = ("background", "person")
    sigmas = sizes = None

    def __init__(self, name: str, names: Sequence[str], flip_pairs, files: Sequence[Path], joints, proposals=None):
        self.name, self.keypoint_names, self.flip_pairs = name, tuple(names), tuple(flip_pairs)
        self.files, self.joints, self.proposals = list(files), np.asarray(joints, np.float32), proposals
        self.max_proposals = 0 if proposals is None else 1
        self.image_ids = np.arange(len(self.files))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return {"image": read_image(self.files[i]), **self.annotations(i)}

    def annotations(self, i):
        path, joints = self.files[i], self.joints[i]
        height, width = encoded_size(path, read_bytes(path))
        limit = np.array([width, height] * 2, np.float32)
        labelled = joints[joints[:, 2] > 0, :2]
        box = np.concatenate([labelled.min(0), labelled.max(0)]).clip(0, limit) if len(labelled) else np.zeros(4)
        if not (box[2:] > box[:2]).all():
            raise ExampleError(
                f"image {i} ({path}): its {len(labelled)} labelled joints have no width or height in the picture of "
                f"{height} x {width}; correct them or leave it out"
            )
        example = {
            "image_id": i,
            "file": str(path),
            "boxes": box[None].astype(np.float32),
            "classes": np.ones(1, np.int32),
            "keypoints": joints[None],
        }
        if self.proposals is not None:
            example["proposals"] = np.asarray(self.proposals[i], np.float32).clip(0, limit)[None]
        return example


def open_lsp(root, split: str) -> PoseFiles:
    """Leeds Sports Pose or its extension: a folder with joints.mat and images/im0001.jpg, or im00001.jpg, ...

    split: of Leeds Sports Pose "train", the first half, or "test", the second; of the extension, which is for training,
    "train"; "all" of either. Several at once are "lsp_dataset/train+lspet_dataset/train", with root above the folders.
    Of Leeds Sports Pose the third number of a joint says that it is hidden (visibility 1); the extension's says that it can be
    seen, and others are not labelled (0).
    Raises FileNotFoundError for what is not there, ValueError for joints of another shape and for another split.
    """
    files, joints = [], []
    for part in split.split("+"):
        folder, _, name = part.strip().rpartition("/")
        folder = Path(root) / folder
        these, extended = _read_leeds(folder)
        half, count = len(these) // 2, len(these)
        rows = {"train": range(count if extended else half), "all": range(count)}
        rows |= {} if extended else {"test": range(half, count)}
        if name not in rows:
            raise ValueError(f"there is no split {name!r} of {folder}; there are: {', '.join(rows)}")
        pattern = "im{:05d}.jpg" if extended else "im{:04d}.jpg"
        files += [folder / "images" / pattern.format(row + 1) for row in rows[name]]
        joints.append(these[rows[name]])
    _check_there(files)
    return PoseFiles(f"lsp/{split}", person.JOINTS, person.FLIP_PAIRS, files, np.concatenate(joints))


def _read_leeds(folder: Path) -> tuple[np.ndarray, bool]:
    """((N,14,3) joints with visibility, whether it is the extension)."""
    path = folder / "joints.mat"
    joints = np.asarray(_load(path, "joints"))
    count = len(person.JOINTS)
    if joints.ndim == 3 and joints.shape[:2] == (3, count):
        joints, extended = joints.transpose(2, 1, 0).astype(np.float32), False
        joints[..., 2] = np.where(joints[..., 2] > 0, 1, 2)
    elif joints.ndim == 3 and joints.shape[:2] == (count, 3):
        joints, extended = joints.transpose(2, 0, 1).astype(np.float32), True
        joints *= joints[..., 2:] > 0
        joints[..., 2] *= 2
    else:
        raise ValueError(
            f"{path}: joints have shape {joints.shape}; Leeds Sports Pose has (3, {count}, N), its extension ({count}, 3, N), "
            f"{count} joints for each picture from images/im0001.jpg on"
        )
    return joints, extended


def open_flic(root, split: str) -> PoseFiles:
    """FLIC: a folder with examples.mat and images/, split "train" or "test" as the examples are marked.

    Eleven joints of the upper body; left and right are the person's. Where the person is looked for, as other work on the
    set is told too, is a square around the torso's box, three times its longer side; `proposals` has it.
    Raises FileNotFoundError for what is not there, ValueError for a file of another form, an example whose joints are not
    29 columns, and another split.
    """
    root = Path(root)
    path, marks = root / "examples.mat", {"train": "istrain", "test": "istest"}
    if split not in marks:
        raise ValueError(f"there is no split {split!r} of {root}; there are: {', '.join(marks)}")
    examples = np.atleast_1d(_load(path, "examples"))
    needed = {"filepath", "coords", "torsobox", marks[split]}
    if missing := sorted(needed - set(examples.dtype.names or ())):
        raise ValueError(f"{path}: its examples have no {', '.join(missing)}, which FLIC's have")
    files, joints, proposals = [], [], []
    for number, example in enumerate(examples):
        if not example[marks[split]]:
            continue
        coords, torso = np.asarray(example["coords"], np.float32), np.asarray(example["torsobox"], np.float32)
        if coords.shape != (2, FLIC_COLUMNS) or torso.shape != (4,):
            raise ValueError(
                f"{path}, example {number + 1} (images/{example['filepath']}): coords have shape {coords.shape}, torsobox "
                f"{torso.shape}; FLIC has (2, {FLIC_COLUMNS}), of which {len(FLIC_JOINTS)} joints are marked, and (4,)"
            )
        places = coords[:, list(FLIC_JOINTS.values())].T
        known = np.isfinite(places).all(1, keepdims=True)
        joints.append(np.concatenate([np.where(known, places, 0), 2 * known], 1))
        centre, half = (torso[:2] + torso[2:]) / 2, BODY / 2 * (torso[2:] - torso[:2]).max()
        proposals.append(np.concatenate([centre - half, centre + half]))
        files.append(root / "images" / str(example["filepath"]))
    if not files:
        raise ValueError(f"{path}: no example is marked as {marks[split]}")
    _check_there(files)
    return PoseFiles(f"flic/{split}", FLIC_JOINTS, FLIC_FLIP_PAIRS, files, np.stack(joints), np.stack(proposals))


def _load(path: Path, name: str):
    from scipy.io import loadmat  # scipy comes with scikit-learn and jax

    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give the folder that holds {path.name} and images")
    try:
        # Squeezed: MATLAB's structs and texts come as arrays of one element. joints.mat must keep a single picture's axis.
        return loadmat(path, variable_names=[name], squeeze_me=name == "examples")[name]
    except Exception as error:  # a broken file may raise anything: zlib's, struct's, MATLAB's own
        raise ImageError(f"{path}: no {name} can be read from it ({error!r})") from error


def _check_there(files: Sequence[Path]) -> None:
    if missing := [str(path) for path in files if not path.is_file()]:
        raise FileNotFoundError(f"{len(missing)} of {len(files)} pictures are not there: {some(missing)}")
