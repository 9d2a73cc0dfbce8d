import json
import pickle

import numpy as np
import pytest

from jaxvision.data.coco import CocoSource, export_coco
from jaxvision.data.images import ImageError, write_image
from jaxvision.data.validation import ExampleError, validate


class Fake:
    """A small set made by hand: masks of odd shapes, a crowd, joints, fractions, an image without objects."""

    name = "fake"
    class_names = ("background", "cat", "dog", "owl")
    keypoint_names = ("left ear", "tail", "other ear")  # no pair by name
    flip_pairs = ((0, 2),)
    sigmas = np.array([0.05, 0.05, 0.1])
    sizes = np.array([[9, 14], [11, 6], [5, 5]])

    def __len__(self):
        return 3

    def annotations(self, i):
        return {name: value for name, value in self[i].items() if name != "image"}

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        height, width = self.sizes[i]
        count = (3, 2, 0)[i]
        corners = rng.uniform(0, [width / 2, height / 2], (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(1, [width / 2, height / 2], (count, 2))], 1)
        visibility = rng.integers(0, 3, (count, 3, 1))
        keypoints = np.concatenate([rng.uniform(0, 5, (count, 3, 2)), visibility], 2) * (visibility > 0)
        return {
            "image": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
            "image_id": 30 - i,
            "file": f"{i}",
            "boxes": boxes.astype(np.float32),
            "classes": rng.integers(1, 4, count).astype(np.int32),
            "crowd": np.arange(count) == 1,
            "area": rng.uniform(1, 50, count).astype(np.float32),
            "masks": (rng.random((count, height, width)) < 0.4).astype(np.uint8),
            "keypoints": keypoints.astype(np.float32),
        }


def test_export_and_read_back_is_the_same_set(tmp_path, capsys):
    fake = Fake()
    source = pickle.loads(pickle.dumps(CocoSource(*export_coco(fake, tmp_path))))
    assert capsys.readouterr().out == ""
    assert len(source) == 3
    for i in range(3):
        example, expected = source[i], fake[i]
        for name in ("image", "image_id", "boxes", "classes", "crowd", "area", "masks", "keypoints"):
            np.testing.assert_array_equal(example[name], expected[name], err_msg=name)
            assert np.asarray(example[name]).dtype == np.asarray(expected[name]).dtype, name
        assert source.annotations(i).keys() == example.keys() - {"image"}
        assert example["file"].endswith(f"{30 - i:012d}.png")
    assert source.class_names == fake.class_names
    assert source.keypoint_names == fake.keypoint_names and source.flip_pairs == fake.flip_pairs
    np.testing.assert_array_equal(source.sigmas, fake.sigmas)
    np.testing.assert_array_equal(source.sizes, fake.sizes)
    assert source.category_ids.tolist() == [-1, 1, 2, 3]


def test_export_of_boxes_alone(tmp_path):
    class Boxes(Fake):
        keypoint_names, sigmas = (), None

        def __getitem__(self, i):
            example = super().__getitem__(i)
            return {name: example[name] for name in ("image", "image_id", "boxes", "classes")}

    source = CocoSource(*export_coco(Boxes(), tmp_path))
    assert not {"masks", "semantic", "keypoints"} & source[0].keys()
    np.testing.assert_array_equal(source[0]["boxes"], Boxes()[0]["boxes"])
    sides = Boxes()[0]["boxes"][:, 2:] - Boxes()[0]["boxes"][:, :2]
    np.testing.assert_allclose(source[0]["area"], sides.prod(1), rtol=1e-6)


def annotation(**changes):
    return {
        "id": 1,
        "image_id": 5,
        "category_id": 7,
        "bbox": [1, 2, 3, 2],
        "area": 6,
        "iscrowd": 0,
        "segmentation": [[1, 2, 4, 2, 4, 4, 1, 4]],
    } | changes


def written(folder, annotations, **changes):
    content = {
        "images": [{"id": 5, "file_name": "a.png", "height": 6, "width": 8}],
        "annotations": annotations,
        "categories": [{"id": 18, "name": "dog"}, {"id": 7, "name": "train"}],
    } | changes
    (folder / "set.json").write_text(json.dumps(content))
    write_image(folder / "a.png", np.full((6, 8, 3), 9, np.uint8))
    return folder / "set.json", folder


def test_polygons_and_both_kinds_of_rle(tmp_path):
    uncompressed = {"size": [6, 8], "counts": [0, 6, 42]}  # the first column
    compressed = {"size": [6, 8], "counts": "0600Z1"}
    from pycocotools import mask as rle

    compressed["counts"] = rle.frPyObjects(uncompressed, 6, 8)["counts"].decode()
    annotations = [
        annotation(),
        annotation(id=2, category_id=18, segmentation=uncompressed, bbox=[0, 0, 1, 6], iscrowd=1),
        annotation(id=3, category_id=18, segmentation=compressed, bbox=[0.5, 0.25, 1, 5]),
    ]
    source = CocoSource(*written(tmp_path, annotations))
    example = source[0]
    assert example["boxes"].tolist() == [[1, 2, 4, 4], [0, 0, 1, 6], [0.5, 0.25, 1.5, 5.25]]
    assert example["classes"].tolist() == [1, 2, 2] and example["crowd"].tolist() == [False, True, False]
    assert example["annotation_ids"].tolist() == [1, 2, 3]
    rectangle, column = np.zeros((2, 6, 8), np.uint8)
    rectangle[2:4, 1:4] = 1
    column[:, 0] = 1
    np.testing.assert_array_equal(example["masks"], [rectangle, column, column])
    np.testing.assert_array_equal(example["semantic"], rectangle + 2 * column)
    assert source.class_names == ("background", "train", "dog") and source.category_ids.tolist() == [-1, 7, 18]
    validate(example, 3)


def test_later_annotations_are_painted_over_earlier(tmp_path):
    annotations = [annotation(), annotation(id=2, category_id=18, segmentation=[[2, 2, 8, 2, 8, 4, 2, 4]])]
    assert CocoSource(*written(tmp_path, annotations))[0]["semantic"][2].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]


def test_kept_category_ids(tmp_path):
    source = CocoSource(*written(tmp_path, [annotation(category_id=18)]), category_ids="kept")
    assert len(source.class_names) == 19 and source.class_names[18] == "dog" and source.class_names[8] == "N/A"
    assert source[0]["classes"].tolist() == [18] and source.category_ids[18] == 18 and source.category_ids[8] == -1
    with pytest.raises(ValueError, match="category id 0"):
        CocoSource(*written(tmp_path, [], categories=[{"id": 0, "name": "a"}]), category_ids="kept")
    with pytest.raises(ValueError, match="contiguous"):
        CocoSource(tmp_path / "set.json", tmp_path, category_ids="keep")


def test_images_without_annotations_are_kept(tmp_path):
    path, folder = written(tmp_path, [])
    content = json.loads(path.read_text())
    del content["annotations"]  # as in the json of a test set
    path.write_text(json.dumps(content))
    example = CocoSource(path, folder)[0]
    assert example["boxes"].shape == (0, 4) and example["classes"].shape == (0,)
    validate(example, 3)


def test_keypoints_of_some_categories(tmp_path):
    names = ["nose", "left_eye", "right_eye"]
    categories = [{"id": 7, "name": "person", "keypoints": names, "skeleton": []}, {"id": 18, "name": "dog"}]
    annotations = [annotation(keypoints=[1, 2, 2, 3, 4, 1, 0, 0, 0]), annotation(id=2, category_id=18)]
    source = CocoSource(*written(tmp_path, annotations, categories=categories))
    assert source[0]["keypoints"].tolist() == [[[1, 2, 2], [3, 4, 1], [0, 0, 0]], [[0, 0, 0]] * 3]
    assert source.flip_pairs == ((1, 2),) and source.sigmas is None
    with pytest.raises(ValueError, match="6 numbers for 3 keypoints"):
        CocoSource(*written(tmp_path, [annotation(keypoints=[1] * 6)], categories=categories))


@pytest.mark.parametrize(
    "annotations, message",
    [
        ([annotation(category_id=9)], r"annotation 1 of image 5: unknown category_id 9; there are \[7, 18\]"),
        ([annotation(), annotation()], r"1 ids of annotations come twice \[1\]"),
        ([annotation(image_id=6)], "no such image"),
        ([annotation(segmentation=[[1, 1, 2, 2]])], "a polygon of 4 numbers"),
        ([annotation(segmentation=[[1, 1, 2, 2, 3, 3, 4]])], "a polygon of 7 numbers"),
        (
            [annotation(segmentation={"size": [8, 6], "counts": [48]})],
            r"its mask is of \[8, 6\], the image of \[6, 8\]",
        ),
        ([annotation(), annotation(id=2, segmentation=[])], "annotation 2 .*no segmentation"),
        ([annotation(bbox=[1, 2, 3])], r"bbox is \[1, 2, 3\]"),
        ([{name: value for name, value in annotation().items() if name != "area"}], "no area"),
    ],
)
def test_a_json_that_contradicts_itself(tmp_path, annotations, message):
    with pytest.raises(ValueError, match=message):
        CocoSource(*written(tmp_path, annotations))


def test_what_is_missing_is_named(tmp_path):
    path, folder = written(tmp_path, [annotation()])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        CocoSource(tmp_path / "nowhere.json", folder)
    with pytest.raises(FileNotFoundError, match="nofolder"):
        CocoSource(path, tmp_path / "nofolder")
    path.write_text("{")
    with pytest.raises(ValueError, match="no COCO json"):
        CocoSource(path, folder)
    path.write_text('{"annotations": []}')
    with pytest.raises(ValueError, match="no 'images'"):
        CocoSource(path, folder)
    path, folder = written(tmp_path, [annotation()])
    (tmp_path / "a.png").unlink()
    source = CocoSource(path, folder)
    assert source.annotations(0)["classes"].tolist() == [1]
    with pytest.raises(ImageError, match=r"a\.png"):
        source[0]


def test_an_image_of_another_size_is_refused(tmp_path):
    path, folder = written(tmp_path, [annotation()])
    write_image(tmp_path / "a.png", np.zeros((8, 6, 3), np.uint8))
    with pytest.raises(ImageError, match=r"a\.png\) is 8 x 6 .* says 6 x 8"):
        CocoSource(path, folder)[0]


def test_a_degenerate_box_is_reported_with_its_annotation(tmp_path):
    source = CocoSource(*written(tmp_path, [annotation(id=77, bbox=[1, 2, 0, 3])]))
    with pytest.raises(ExampleError, match=r"image 5 .*row 0 \(annotation 77\): box \[1.0, 2.0, 1.0, 5.0\]"):
        validate(source[0], 3)
