import numpy as np
import pytest

from jaxvision.visualize.classification import draw_classification
from jaxvision.visualize.detections import draw_detections
from jaxvision.visualize.layout import draw_text, enlarge, enlargement, side_by_side
from jaxvision.visualize.palette import palette
from jaxvision.visualize.segmentation import GREY, draw_segmentation

NAMES = ("background", "cat", "dog")


def result(masks=True, scores=None):
    mask = np.zeros((2, 100, 128), bool)
    mask[0, 40:70, 20:60] = mask[1, 80:100, 100:128] = True
    boxes = np.array([[20, 40, 60, 70], [100, 80, 128, 100]], np.float32)
    fields = {"boxes": boxes, "classes": np.array([1, 2])}
    fields |= {"masks": mask} if masks else {}
    return fields if scores is None else fields | {"scores": np.array(scores)}


def test_palette_is_that_of_voc():
    known = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    known += [(128, 128, 128), (64, 0, 0), (192, 0, 0)]
    assert palette(10).tolist() == [list(c) for c in known]
    assert palette(21)[20].tolist() == [0, 64, 128]
    assert len(np.unique(palette(256), axis=0)) == 256
    assert palette(256)[255].tolist() == [224, 224, 192]


def test_small_pictures_are_enlarged_by_whole_factors():
    assert [enlargement((s, 999)) for s in (1, 96, 128, 383, 384, 1000)] == [384, 4, 3, 2, 1, 1]
    assert enlarge(np.array([[1, 2]]), 2).tolist() == [[1, 1, 2, 2]] * 2
    assert draw_detections(np.zeros((100, 128, 3), np.uint8), result(), NAMES).shape == (400, 512, 3)
    assert draw_detections(np.zeros((400, 1000, 3)), {"boxes": [], "classes": []}, NAMES).shape == (400, 1000, 3)


def test_a_box_lies_on_the_outermost_pixels_of_its_object():
    picture = draw_detections(np.full((100, 128, 3), 255, np.uint8), result(masks=False), NAMES)
    red = (picture == (128, 0, 0)).all(-1)
    red[:160] = False  # the label above
    ys, xs = np.nonzero(red)
    # The frame is two pixels wide: OpenCV widens it on one side or both, by at most one pixel.
    assert abs(xs.min() - 80) <= 1 and abs(xs.max() - 239) <= 1 and abs(ys.max() - 279) <= 1
    assert red[200, 80] and red[200, 239] and red[279, 150]
    green = (picture == (0, 128, 0)).all(-1)
    assert green[399, 450] and green[380, 511]  # at the very edge of the picture, and inside it


def test_a_mask_covers_its_pixels_and_no_others():
    image = np.full((100, 128, 3), 200, np.uint8)
    fields = result()
    fields["boxes"] = np.array([[90, 2, 95, 4]] * 2, np.float32)  # out of the way
    picture = draw_detections(image, fields, NAMES)
    inside = enlarge(fields["masks"].any(0), 4)
    changed = (picture != 200).any(-1)
    changed[:100] = False  # the boxes and their labels
    np.testing.assert_array_equal(changed, inside)
    assert picture[200, 160].tolist() == [164, 100, 100]  # half of 200 and half of (128, 0, 0)
    assert picture[200, 80].tolist() == picture[160, 100].tolist() == [128, 0, 0]  # its outline
    assert (image == 200).all()


def test_only_scores_from_the_threshold_on_are_drawn():
    image = np.full((100, 128, 3), 200, np.uint8)
    blank = draw_detections(image, result(scores=[0.2, 0.49]), NAMES)
    assert (blank == 200).all()
    half = draw_detections(image, result(scores=[0.2, 0.5]), NAMES)
    assert (half[160:280, 80:240] == 200).all() and (half[320:, 400:] != 200).any()
    low = draw_detections(image, result(scores=[0.2, 0.5]), NAMES, threshold=0.1)
    assert (low[160:280, 80:240] != 200).any()


def test_the_best_lies_on_top():
    fields = {"boxes": np.array([[10, 50, 60, 90]] * 2), "classes": np.array([1, 2]), "scores": np.array([0.9, 0.6])}
    picture = draw_detections(np.full((100, 128, 3), 255, np.uint8), fields, NAMES)
    assert picture[300, 40].tolist() == [128, 0, 0]


def test_labelled_joints_and_edges_are_drawn_where_they_are():
    joints = np.array([[[30.5, 50.5, 2], [60.5, 50.5, 1], [90.5, 90.5, 0]]])
    fields = {"boxes": np.array([[2.0, 2, 6, 6]]), "classes": np.array([1]), "keypoints": joints}
    image = np.full((100, 128, 3), 255, np.uint8)
    picture = draw_detections(image, fields, NAMES, keypoint_edges=((0, 1), (1, 2)))
    for x in (122, 242):  # four times 30.5 and 60.5
        around = (picture[190:214, x - 12 : x + 12] == (128, 0, 0)).all(-1)
        assert around[11:13, 11:13].all()
    assert (picture[202, 130:235] == (128, 0, 0)).all()
    assert (picture[300:] == 255).all()
    assert (draw_detections(image, fields, NAMES)[202, 140:225] == 255).all()


@pytest.mark.parametrize("corner", [(-50, -50), (500, 500), (10, 395), (480, 3)])
def test_text_stays_inside_the_picture(corner):
    picture = np.full((400, 500, 3), 255, np.uint8)
    draw_text(picture, "typography", corner, 20, (0, 0, 128))
    ground = (picture != 255).any(-1)
    ys, xs = np.nonzero(ground)
    assert ys.max() - ys.min() == 19 and xs.max() - xs.min() > 60
    ink = (picture > 200).all(-1)[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    assert ink.sum() > 50 and not ink[:, 0].any() and not ink[:, -1].any()


def test_segmentation_overlay_map_and_legend():
    image = np.full((100, 128, 3), 200, np.uint8)
    classes = np.zeros((100, 128), int)
    classes[40:70, 20:60] = 2
    classes[90:] = 255
    picture = draw_segmentation(image, classes, NAMES)
    assert picture.shape[1] == 1024 and picture.shape[0] > 400
    overlay, class_map = picture[:400, :512], picture[:400, 512:]
    assert (overlay[360:] == 200).all() and (class_map[360:] == GREY).all()
    dog = enlarge(classes == 2, 4)
    np.testing.assert_array_equal((class_map == (0, 128, 0)).all(-1), dog)
    np.testing.assert_array_equal((overlay == (100, 164, 100)).all(-1), dog)
    legend = picture[400:].reshape(-1, 3)
    assert (legend == (0, 128, 0)).all(-1).any() and (legend == GREY).all(-1).any()
    assert not (legend == (128, 0, 0)).all(-1).any()  # there is no cat


def test_a_long_legend_takes_more_lines():
    image, names = np.zeros((384, 400, 3), np.uint8), [f"a rather long name {n}" for n in range(30)]
    few, many = (draw_segmentation(image, np.arange(384 * 400).reshape(384, 400) % n, names) for n in (2, 30))
    assert many.shape[0] > few.shape[0] + 60 and many.shape[1] == few.shape[1]


def test_segmentation_refuses():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="classes have shape"):
        draw_segmentation(image, np.zeros((4, 5), int), NAMES)
    with pytest.raises(ValueError, match=r"classes \[3\] have no name among 3"):
        draw_segmentation(image, np.full((4, 4), 3), NAMES)
    with pytest.raises(ValueError, match=r"expected an image \(H, W, 3\)"):
        draw_segmentation(np.zeros((4, 4)), np.zeros((4, 4), int), NAMES)


def test_classification_writes_a_line_for_each():
    image = np.full((128, 128, 3), 200, np.uint8)
    one, two = (draw_classification(image, [("cat", 0.9), ("dog", 0.1)][:n]) for n in (1, 2))
    heights = [np.nonzero((picture == 0).all(-1).any(1))[0].max() + 1 for picture in (one, two)]
    assert one.shape == (384, 384, 3) and heights[1] == 2 * heights[0] and (one[60:] == 200).all()


def test_side_by_side():
    small, large = np.full((50, 60, 3), 10, np.uint8), np.full((400, 300, 3), 0.5)
    row = side_by_side([small, large], ["truth", "prediction"])
    assert (row[-400:, :480] == 10).all() and (row[-400:, -300:] == 128).all() and row.shape[0] > 400
    assert (row[:-400] != 255).any()
    with pytest.raises(ValueError, match="2 pictures with 1 titles"):
        side_by_side([small, large], ["truth"])
