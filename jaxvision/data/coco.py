"""Sets in COCO's format: a source that reads a json and a folder of pictures, and an exporter of any source.

Format: https://cocodataset.org/#format-data. pycocotools reads the json and the masks.
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO

from jaxvision.data.images import ImageError, read_image, write_image

# Keypoint deviations of COCO's seventeen joints, for sets whose json does not give its own.
COCO_SIGMAS = (
    np.array([0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89])
    / 10
)


class CocoSource:
    """A source of detection examples from COCO annotations; images without annotations are kept.

    Classes are the category ids mapped to 1..K in ascending order, or with `category_ids="kept"` the ids themselves
    (91 class names for COCO, as torchvision's weights have). `source.category_ids[c]` is the id of class c, -1 for
    none, for results files. Boxes become x1 y1 x2 y2; coordinates of keypoints are taken as they stand, without half a
    pixel added. `semantic` is derived: the classes of the masks painted in the order of the annotations, later ones
    over earlier, crowds too, 0 elsewhere. A category may carry, beyond COCO's format, `keypoint_sigmas` (else COCO's
    serve for seventeen joints) and `keypoint_flip_pairs` (else joints are paired by left and right in their names).

    Raises FileNotFoundError for a missing json or folder, ValueError for one that contradicts itself (ids twice or
    unknown, a polygon of fewer than three points, a mask of another size than its image), and on reading ImageError for
    a picture whose size is not the json's. Values of boxes are left to `jaxvision.data.validation`, which names the
    annotation.
    """

    def __init__(self, annotations_json, images_folder, category_ids: str = "contiguous"):
        if category_ids not in ("contiguous", "kept"):
            raise ValueError(f"category_ids is {category_ids!r}, expected 'contiguous' or 'kept'")
        self.path, self.folder = Path(annotations_json), Path(images_folder)
        if not self.path.is_file():
            raise FileNotFoundError(f"no annotations at {self.path}; give the path of a COCO json")
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder of images at {self.folder}, which {self.path.name} needs")
        self.coco = _load(self.path)
        categories = sorted(self.coco.cats.values(), key=lambda category: category["id"])
        self.name = self.path.stem
        self.category_ids = _category_table(categories, category_ids, self.path)
        names = {category["id"]: category["name"] for category in categories}
        self.class_names = ("background", *(names.get(int(i), "N/A") for i in self.category_ids[1:]))
        self._classes = {int(i): c for c, i in enumerate(self.category_ids) if i >= 0}
        self.image_ids = np.array([image["id"] for image in self.coco.dataset["images"]], np.int64)
        self.sizes = np.array([[im["height"], im["width"]] for im in self.coco.dataset["images"]], int).reshape(-1, 2)
        self.keypoint_names, self.sigmas, self.flip_pairs = _joints(categories, self.path)
        self._has_masks = self._check_annotations()

    def __len__(self):
        return len(self.image_ids)

    def __getitem__(self, i):
        example = self.annotations(i)
        image = read_image(example["file"])
        if image.shape[:2] != tuple(self.sizes[i]):
            raise ImageError(
                f"image {example['image_id']} ({example['file']}) is {image.shape[0]} x {image.shape[1]} with its EXIF "
                f"orientation applied, {self.path.name} says {self.sizes[i][0]} x {self.sizes[i][1]}; the annotations "
                "are of another picture"
            )
        return {"image": image, **example}

    def annotations(self, i):
        image = self.coco.dataset["images"][i]
        objects = self.coco.imgToAnns.get(image["id"], [])
        xywh = np.array([a["bbox"] for a in objects], np.float64).reshape(-1, 4)
        example = {
            "image_id": int(image["id"]),
            "file": str(self.folder / image["file_name"]),
            "boxes": np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32),
            "classes": np.array([self._classes[a["category_id"]] for a in objects], np.int32),
            "crowd": np.array([a.get("iscrowd", 0) for a in objects], bool),
            "area": np.array([a["area"] for a in objects], np.float32),
            "annotation_ids": np.array([a["id"] for a in objects], np.int64),
        }
        if self._has_masks:
            size = tuple(self.sizes[i])
            masks = [self.coco.annToMask(a) for a in objects]
            example["masks"] = np.stack(masks) if masks else np.zeros((0, *size), np.uint8)
            example["semantic"] = np.zeros(size, np.int32)
            for mask, label in zip(masks, example["classes"]):
                example["semantic"][mask > 0] = label
        if self.keypoint_names:
            count = len(self.keypoint_names)
            joints = [a.get("keypoints") or [0] * (3 * count) for a in objects]
            example["keypoints"] = np.array(joints, np.float32).reshape(-1, count, 3)
        return example

    def _check_annotations(self) -> bool:
        """Whether the set has masks; raises where the json contradicts itself."""
        masked = [a for a in self.coco.anns.values() if a.get("segmentation")]
        for a in self.coco.anns.values():
            where = f"{self.path.name}, annotation {a['id']} of image {a['image_id']}"
            if a["image_id"] not in self.coco.imgs:
                raise ValueError(f"{where}: there is no such image in the json")
            if a["category_id"] not in self.coco.cats:
                raise ValueError(f"{where}: unknown category_id {a['category_id']}; there are {sorted(self.coco.cats)}")
            if len(a.get("bbox", ())) != 4:
                raise ValueError(f"{where}: bbox is {a.get('bbox')}, expected [x, y, width, height]")
            if "area" not in a:
                raise ValueError(f"{where}: it has no area, by which COCO tells small objects from large")
            joints = a.get("keypoints")
            if joints and len(joints) != 3 * len(self.keypoint_names):
                raise ValueError(f"{where}: {len(joints)} numbers for {len(self.keypoint_names)} keypoints")
            if masked:
                self._check_segmentation(a, where)
        return bool(masked)

    def _check_segmentation(self, annotation, where):
        segmentation = annotation.get("segmentation")
        if not segmentation:
            raise ValueError(f"{where}: no segmentation, though others have one; give it one or remove it")
        if isinstance(segmentation, dict):
            image = self.coco.imgs[annotation["image_id"]]
            if list(segmentation["size"]) != [image["height"], image["width"]]:
                raise ValueError(
                    f"{where}: its mask is of {segmentation['size']}, the image of {[image['height'], image['width']]}"
                )
            return
        for polygon in segmentation:
            if len(polygon) < 6 or len(polygon) % 2:
                raise ValueError(f"{where}: a polygon of {len(polygon)} numbers; it takes x y of three points or more")


def export_coco(source, folder) -> tuple[Path, Path]:
    """Writes a source of detection examples as `annotations.json` and PNG pictures; returns (json, images folder).

    Masks are written as compressed RLE, classes 1..K as category ids, `sigmas` and `flip_pairs` with each category.
    Reading it back with `CocoSource` gives the same image, boxes, classes, crowd, masks, area and keypoints, bit for
    bit. What COCO has no field for is left out: difficult, semantic (see `CocoSource`), label, captions.
    Raises ValueError where an example has no boxes field or an image id comes twice.
    """
    folder = Path(folder)
    images_folder = folder / "images"
    images_folder.mkdir(parents=True, exist_ok=True)
    categories = [{"id": c, "name": name} for c, name in enumerate(source.class_names) if c > 0]
    if source.keypoint_names:
        joints = {"keypoints": list(source.keypoint_names), "skeleton": []}
        joints["keypoint_flip_pairs"] = [[int(a), int(b)] for a, b in source.flip_pairs]
        if source.sigmas is not None:
            joints["keypoint_sigmas"] = np.asarray(source.sigmas, float).tolist()
        categories = [category | joints for category in categories]
    images, annotations, seen = [], [], set()
    for i in range(len(source)):
        example = source[i]
        image_id = int(example["image_id"])
        if "boxes" not in example:
            raise ValueError(f"image {image_id} of {source.name} has no boxes; only detection examples can be written")
        if image_id in seen:
            raise ValueError(f"image id {image_id} of {source.name} comes twice")
        seen.add(image_id)
        height, width = example["image"].shape[:2]
        name = f"{image_id:012d}.png"
        write_image(images_folder / name, example["image"])
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for annotation in to_annotations(example):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, images_folder


def to_annotations(example) -> list[dict]:
    """The objects of an example as COCO annotations, without ids; category_id is the class.

    Where the example gives no area, it is that of the mask, or without masks of the box.
    """
    annotations = []
    for n, (x1, y1, x2, y2) in enumerate(np.asarray(example["boxes"], np.float64).tolist()):
        width, height = x2 - x1, y2 - y1
        annotation = {
            "category_id": int(example["classes"][n]),
            "bbox": [x1, y1, width, height],
            "area": width * height,
            "iscrowd": int(example["crowd"][n]) if "crowd" in example else 0,
        }
        if "masks" in example:
            annotation["segmentation"] = encode_mask(example["masks"][n])
            annotation["area"] = float(np.count_nonzero(example["masks"][n]))
        if "keypoints" in example:
            keypoints = np.asarray(example["keypoints"][n], np.float64)
            annotation["keypoints"] = keypoints.ravel().tolist()
            annotation["num_keypoints"] = int((keypoints[:, 2] > 0).sum())
        if "area" in example:
            annotation["area"] = float(example["area"][n])
        annotations.append(annotation)
    return annotations


def encode_mask(mask: np.ndarray) -> dict:
    """COCO's compressed RLE of a mask (H, W), ready for json: {"size": [H, W], "counts": str}."""
    encoded = rle.encode(np.asfortranarray(np.asarray(mask) > 0, dtype=np.uint8))
    return {"size": [int(s) for s in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def _load(path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        try:
            coco = COCO(str(path))
        except (json.JSONDecodeError, AssertionError, KeyError) as error:
            raise ValueError(f"{path} is no COCO json: {error!r}") from error
    for key in ("images", "categories"):
        if key not in coco.dataset:
            raise ValueError(f"{path} is no COCO json: it has no {key!r}")
    for name, index in ("images", coco.imgs), ("annotations", coco.anns), ("categories", coco.cats):
        ids = [entry["id"] for entry in coco.dataset.get(name, ())]
        if len(index) != len(ids):
            twice = sorted(i for i in set(ids) if ids.count(i) > 1)[:5] if len(ids) < 10_000 else ""
            raise ValueError(f"{path}: {len(ids) - len(index)} ids of {name} come twice {twice}; ids must be unique")
    return coco


def _category_table(categories, mode, path):
    ids = [category["id"] for category in categories]
    if mode == "contiguous":
        return np.array([-1, *ids], np.int64)
    if min(ids, default=1) < 1:
        raise ValueError(f"{path}: category id {ids[0]} cannot be kept, 0 is the background; use 'contiguous'")
    table = np.full(max(ids, default=0) + 1, -1, np.int64)
    table[ids] = ids
    return table


def _joints(categories, path):
    with_joints = [category for category in categories if category.get("keypoints")]
    if not with_joints:
        return (), None, ()
    first = with_joints[0]
    names = tuple(first["keypoints"])
    for category in with_joints:
        if tuple(category["keypoints"]) != names:
            raise ValueError(f"{path}: categories {first['name']} and {category['name']} have different keypoints")
    sigmas = first.get("keypoint_sigmas", COCO_SIGMAS if len(names) == len(COCO_SIGMAS) else None)
    pairs = first.get("keypoint_flip_pairs", _left_and_right(names))
    return names, None if sigmas is None else np.array(sigmas, np.float64), tuple(map(tuple, pairs))


def _left_and_right(names):
    """Pairs of joints whose names differ in left and right alone."""
    return tuple(
        (i, names.index(name.replace("left", "right")))
        for i, name in enumerate(names)
        if "left" in name and name.replace("left", "right") in names
    )
