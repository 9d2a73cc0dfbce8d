"""Host-side checks of one example, once, before any padding: what is found, where, and what to do about it.

Departs from torchvision, which trains silently on NaN boxes, boxes outside the picture, objects of class 0, masks of
another size and 0..255 floats.
"""

import numpy as np

from jaxvision.data.geometry import IGNORED

OUTSIDE_TOLERANCE = 1.0  # pixels: annotations are rounded, so a box may stick out that far and is clipped


class ExampleError(ValueError):
    """An example that must not be trained on; the message names the image, the row and the remedy."""


def validate(
    example,
    num_classes: int,
    *,
    num_semantic_classes: int | None = None,
    num_labels: int | None = None,
    num_joints: int | None = None,
    where: str = "",
):
    """Checks an example at its own resolution and returns it with the canonical dtypes, as a new dict.

    Raises ExampleError for: an image that is not (H, W, 3), is empty, not finite, or float with 0..255 values (a float
    image with negative values is taken to be normalised); boxes or proposals that are not (N, 4), not finite, without width or
    height, or more than a pixel outside (up to a pixel they are clipped); classes that are not N whole numbers in
    1..num_classes-1; other object fields that have not N rows; masks not 0/1 or of another size than the image;
    keypoints not (N, K, 3), not finite, of a visibility other than 0, 1, 2, or with another K than num_joints; a semantic map
    of another size or with values that are neither below num_semantic_classes (default num_classes) nor 255, or
    semantic_labels beside it that are not (H, W, classes) of 0 and 1; a label
    outside 0..num_labels-1 (default num_classes), or labels that are not num_labels of 0 and 1. No objects at all is fine.
    `where` begins the message; default the image's id and file. Where the semantic map comes from a file, `mask_file`, that
    is named too.
    """
    check = _Checker(example, where)
    example = dict(example)
    example["image"] = check.image(example["image"])
    size = example["image"].shape[:2]
    if "boxes" in example:
        example.update(check.objects(size, num_classes, num_joints))
    if "proposals" in example:
        example["proposals"] = check.boxes(size, "proposals")
    if "semantic" in example:
        count = num_classes if num_semantic_classes is None else num_semantic_classes
        example["semantic"] = check.semantic(size, count)
        if "semantic_labels" in example:
            example["semantic_labels"] = check.semantic_labels(size, count)
    count = num_classes if num_labels is None else num_labels
    if "label" in example:
        label = example["label"]
        if int(label) != label or not 0 <= label < count:
            check.fail(f"label is {label}, expected a whole number in 0..{count - 1}", "correct the label")
    if "labels" in example:
        labels = check.array("labels", integer=True)
        if labels.shape != (count,) or not np.isin(labels, (0, 1)).all():
            check.fail(f"labels are {labels.tolist()}", f"give {count} of 0 and 1, one for each class")
        example["labels"] = labels.astype(bool)
    return example


def check_object_of_label(example) -> None:
    """Raises ExampleError where no object of an example, of those to learn from, is of its label's class."""
    check = _Checker(example, "")
    for name in ("label", "boxes"):
        if name not in example:
            check.fail(
                f"there is no {name}", "localisation needs images with a label and boxes of it; take another source"
            )
    if not (_to_learn(example) & (np.asarray(example["classes"]) == example["label"] + 1)).any():
        check.fail(
            f"its label is {example['label']}, and no object is of that class ({example['label'] + 1} of the objects' classes)",
            "give it a box, leave the image out, or set data.skip_bad",
        )


def check_one_person(example) -> None:
    """Raises ExampleError where an example has not just one object with joints to learn from, one of them labelled."""
    check = _Checker(example, "")
    if "keypoints" not in example:
        check.fail("there are no keypoints", "a pose needs joints; take another source")
    count = _to_learn(example).sum()
    if count != 1:
        check.fail(
            f"there are {count or 'no'} persons in it, a pose is that of one",
            "cut images to one person each, leave it out, or set data.skip_bad",
        )
    if not (example["keypoints"][_to_learn(example)][..., 2] > 0).any():
        check.fail("no joint of its person is labelled", "label some, leave it out, or set data.skip_bad")


def _to_learn(example) -> np.ndarray:
    """(N,) which objects are neither crowds nor difficult."""
    none = np.zeros(len(example["boxes"]), bool)
    return ~(np.asarray(example.get("crowd", none), bool) | np.asarray(example.get("difficult", none), bool))


class _Checker:
    def __init__(self, example, where):
        self.example = example
        names = [f"image {example['image_id']}"] if "image_id" in example else []
        names += [f"({example['file']})"] if "file" in example else []
        self.where = where or " ".join(names) or "example"

    def fail(self, found, remedy):
        raise ExampleError(f"{self.where}: {found}; {remedy}")

    def row(self, i):
        ids = self.example.get("annotation_ids")
        return f"row {i}" + ("" if ids is None else f" (annotation {ids[i]})")

    def array(self, name, integer=False):
        array = np.asarray(self.example[name])
        if array.size and array.dtype.kind not in ("iub" if integer else "iubf"):
            self.fail(f"{name} is of dtype {array.dtype}", f"give {'whole ' if integer else ''}numbers")
        return array

    def image(self, image):
        if not isinstance(image, np.ndarray):
            self.fail(f"image is a {type(image).__name__}", "give a numpy array (H, W, 3)")
        if image.ndim != 3:
            self.fail(f"image has shape {image.shape}", "give (height, width, 3); repeat grey over three channels")
        if image.shape[2] != 3:
            self.fail(f"expected 3 channels, got {image.shape[2]}", "convert the image to RGB, channels last")
        if not image.size:
            self.fail(f"image is empty, {image.shape[0]} x {image.shape[1]}", "leave it out")
        if image.dtype != np.uint8 and image.dtype.kind != "f":
            self.fail(f"image is {image.dtype}", "give uint8 in 0..255 or float in 0..1")
        if image.dtype.kind == "f":
            low, high = image.min(), image.max()
            if not np.isfinite(low + high):
                self.fail("image holds NaN or infinity", "correct the image")
            if low >= 0 and high > 1 + 1e-3:
                self.fail(f"float image reaches {high:g}", "divide by 255, or give uint8")
        return image

    def objects(self, size, num_classes, num_joints):
        boxes = self.boxes(size)
        count = len(boxes)
        fields = {"boxes": boxes}
        dtypes = {"crowd": bool, "difficult": bool, "area": np.float32}
        for name in ("classes", *dtypes, "captions", "annotation_ids", "masks", "keypoints"):
            if name in self.example and len(self.example[name]) != count:
                self.fail(f"{len(self.example[name])} {name} for {count} boxes", "give one for each box")
        if count and "classes" not in self.example:
            self.fail(f"{count} boxes without classes", f"give classes (N,) in 1..{num_classes - 1}")
        if "classes" in self.example:
            fields["classes"] = self.classes(num_classes)
        for name, dtype in dtypes.items():
            if name in self.example:
                array = self.array(name)
                if array.ndim != 1 or not np.isfinite(array).all():
                    self.fail(f"{name} has shape {array.shape} or is not finite", "give one number for each box")
                fields[name] = array.astype(dtype)
        if "masks" in self.example:
            fields["masks"] = self.masks(size)
        if "keypoints" in self.example:
            fields["keypoints"] = self.keypoints(num_joints)
        return fields

    def boxes(self, size, name="boxes"):
        boxes = self.array(name)
        if boxes.shape == (0,):
            boxes = boxes.reshape(0, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            self.fail(f"{name} have shape {boxes.shape}", "give (N, 4): x1 y1 x2 y2 in pixels")
        boxes = boxes.astype(np.float32)
        limit = np.array([size[1], size[0]] * 2, np.float32)
        clipped = np.clip(boxes, 0, limit)
        inside = ((boxes >= -OUTSIDE_TOLERANCE) & (boxes <= limit + OUTSIDE_TOLERANCE)).all(1)
        right = np.isfinite(boxes).all(1) & inside & (clipped[:, 2:] > clipped[:, :2]).all(1)
        for i in np.flatnonzero(~right):  # all that follows is to say what is wrong
            box = boxes[i]
            text = f"{self.row(i) if name == 'boxes' else f'proposal {i}'}: box {box.tolist()}"
            if not np.isfinite(box).all():
                self.fail(f"{text} holds NaN or infinity", "correct or remove it")
            if not (box[2:] > box[:2]).all():
                self.fail(f"{text} has no width or height", "boxes are x1 y1 x2 y2 with x1 < x2 and y1 < y2; remove it")
            if (box < -OUTSIDE_TOLERANCE).any() or (box > limit + OUTSIDE_TOLERANCE).any():
                self.fail(
                    f"{text} lies outside the image of height {size[0]} and width {size[1]}",
                    "boxes are in pixels of the original image; clip or remove it",
                )
            self.fail(f"{text} is nothing once clipped to the image", "remove it")
        return clipped

    def classes(self, num_classes):
        classes = self.array("classes", integer=True)
        if classes.ndim != 1:
            self.fail(f"classes have shape {classes.shape}", "give (N,)")
        for i, label in enumerate(classes):
            if label == 0:
                self.fail(f"{self.row(i)}: label 0 is background", f"objects are 1..{num_classes - 1}; add 1 to all")
            if not 0 < label < num_classes:
                self.fail(
                    f"{self.row(i)}: class {label} with {num_classes} classes (background included)",
                    f"objects are 1..{num_classes - 1}; raise num_classes or correct the class",
                )
        return classes.astype(np.int32)

    def masks(self, size):
        masks = self.array("masks", integer=True)
        if masks.ndim != 3 or (len(masks) and masks.shape[1:] != size):
            self.fail(
                f"masks have shape {masks.shape} in an image of {size[0]} x {size[1]}", "give (N, H, W) of its size"
            )
        if masks.size and (masks.min() < 0 or masks.max() > 1):
            self.fail(f"masks hold values from {masks.min()} to {masks.max()}", "give 0 and 1")
        return masks.astype(np.uint8, copy=False)

    def keypoints(self, count):
        keypoints = self.array("keypoints")
        if keypoints.ndim != 3 or keypoints.shape[2] != 3:
            self.fail(f"keypoints have shape {keypoints.shape}", "give (N, K, 3): x y visibility")
        if count is not None and keypoints.shape[1] != count:
            self.fail(
                f"keypoints of {keypoints.shape[1]} joints, where the source names {count}",
                "give all, those that are not labelled with visibility 0",
            )
        for i, joints in enumerate(keypoints):
            if not np.isfinite(joints).all():
                self.fail(f"{self.row(i)}: keypoints hold NaN or infinity", "correct them or set their visibility to 0")
            if not np.isin(joints[:, 2], (0, 1, 2)).all():
                self.fail(
                    f"{self.row(i)}: visibility {joints[:, 2].tolist()}", "it is 0 unlabelled, 1 hidden or 2 visible"
                )
        return keypoints.astype(np.float32)

    def semantic(self, size, count):
        semantic = self.array("semantic", integer=True)
        name = f"semantic ({self.example['mask_file']})" if "mask_file" in self.example else "semantic"
        if semantic.shape != size:
            self.fail(f"{name} has shape {semantic.shape} in an image of {size[0]} x {size[1]}", "give one of its size")
        wrong = (semantic < 0) | (semantic >= count)
        wrong &= semantic != IGNORED
        if wrong.any():
            y, x = np.argwhere(wrong)[0]
            self.fail(
                f"{name} is {semantic[y, x]} at row {y}, column {x}",
                f"classes are 0..{count - 1} and {IGNORED} is ignored",
            )
        return semantic.astype(np.int32, copy=False)

    def semantic_labels(self, size, count):
        labels = self.array("semantic_labels", integer=True)
        if labels.shape != (*size, count) or not np.isin(labels, (0, 1)).all():
            self.fail(
                f"semantic_labels have shape {labels.shape} or other values than 0 and 1 in an image of {size[0]} x "
                f"{size[1]}",
                f"give ({size[0]}, {size[1]}, {count}), one for each class",
            )
        return labels.astype(bool, copy=False)
