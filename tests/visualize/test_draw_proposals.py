import numpy as np

from jaxvision.tasks import get
from jaxvision.visualize.proposals import FOUND, MISSED, OTHERS, draw_proposals


def test_objects_are_green_where_a_proposal_covers_them_and_red_where_none_does():
    image = np.zeros((400, 400, 3), np.uint8)
    proposals = np.array([[300, 300, 350, 360], [100, 102, 200, 200]], np.float32)
    boxes = np.array([[100, 100, 200, 200], [10, 10, 60, 60]], np.float32)
    picture = draw_proposals(image, proposals, boxes)
    assert picture.shape == (400, 400, 3) and not image.any()
    assert picture[150, 100].tolist() == list(FOUND) and picture[30, 10].tolist() == list(MISSED)
    assert picture[330, 300].tolist() == list(OTHERS)
    np.testing.assert_array_equal(draw_proposals(image, proposals[:0], boxes)[30, 10], MISSED)
    assert not draw_proposals(image, proposals, most=0).any()


def test_small_pictures_are_enlarged_and_truth_shows_what_was_proposed():
    example = {
        "image": np.zeros((100, 100, 3), np.uint8),
        "boxes": np.array([[10, 20, 50, 60]], np.float32),
        "classes": np.array([1]),
        "proposals": np.array([[70, 70, 90, 95]], np.float32),
    }
    task = get("region_detection")
    picture = task.draw(example["image"], task.truth(example), ("background", "thing"), 0.5)
    assert picture.shape == (400, 400, 3)
    assert picture[320, 280].tolist() == list(OTHERS) and picture[200, 40].any() and not picture[200, 30].any()
