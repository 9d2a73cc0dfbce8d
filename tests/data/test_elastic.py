import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxvision.data.elastic import Elastic, bend
from jaxvision.data.geometry import IGNORED, MEAN_COLOUR, tight_boxes

SIZE = HEIGHT, WIDTH = 40, 52


def example(seed=0, objects=3, joints=4):
    """A smooth picture with discs as objects and joints within them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    centres = rng.uniform((10, 10), (WIDTH - 10, HEIGHT - 10), (objects, 2))
    masks = np.stack([(x - cx) ** 2 + (y - cy) ** 2 < 36 for cx, cy in centres]).astype(np.uint8)
    keypoints = np.concatenate(
        [centres[:, None] + rng.uniform(-3, 3, (objects, joints, 2)), np.full((objects, joints, 1), 2)], -1
    ).astype(np.float32)
    keypoints[:, 0] = 0
    image = gaussian_filter(rng.uniform(0, 255, (HEIGHT, WIDTH, 3)), (3, 3, 0)) * 3 - 255
    semantic = np.zeros(SIZE, np.int32)
    for n, mask in enumerate(masks):
        semantic[mask > 0] = n + 1
    return {
        "image": image.clip(0, 255).astype(np.uint8),
        "boxes": tight_boxes(masks),
        "classes": np.arange(1, objects + 1, dtype=np.int32),
        "area": 2 * masks.sum((1, 2)).astype(np.float32),
        "masks": masks,
        "keypoints": keypoints,
        "semantic": semantic,
    }


def cubic(distance, a=-0.75):
    """Keys' kernel, with OpenCV's constant."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def displacement(nodes, y, x):
    """At a place in pixels: nodes at the centres of tiles, those at the edge repeated beyond it."""
    grid = len(nodes)
    v, u, total = y * grid / HEIGHT - 0.5, x * grid / WIDTH - 0.5, np.zeros(2)
    for m in range(int(np.floor(v)) - 1, int(np.floor(v)) + 3):
        for n in range(int(np.floor(u)) - 1, int(np.floor(u)) + 3):
            node = nodes[min(max(m, 0), grid - 1), min(max(n, 0), grid - 1)]
            total += cubic(v - m) * cubic(u - n) * node
    return total


def slow_bend(image, semantic, field):
    new, maps = np.zeros(image.shape), np.zeros(SIZE, int)
    for i in range(HEIGHT):
        for j in range(WIDTH):
            x, y = j + field[i, j, 0], i + field[i, j, 1]
            row, column = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
            if not (0 <= row < HEIGHT and 0 <= column < WIDTH):
                new[i, j], maps[i, j] = MEAN_COLOUR, IGNORED
                continue
            maps[i, j] = semantic[row, column]
            for m in (int(np.floor(y)), int(np.floor(y)) + 1):
                for n in (int(np.floor(x)), int(np.floor(x)) + 1):
                    value = image[min(max(m, 0), HEIGHT - 1), min(max(n, 0), WIDTH - 1)]
                    new[i, j] += (1 - abs(y - m)) * (1 - abs(x - n)) * value
    return new, maps


@pytest.mark.parametrize("seed, sigma, grid", [(0, 3.0, 3), (1, 6.0, 2), (2, 1.0, 5)])
def test_as_pixel_by_pixel(seed, sigma, grid):
    given = example(seed)
    nodes = np.random.default_rng(seed).normal(0, sigma, (grid, grid, 2))
    field = np.array([[displacement(nodes, i + 0.5, j + 0.5) for j in range(WIDTH)] for i in range(HEIGHT)])
    image, semantic = slow_bend(given["image"].astype(float), given["semantic"], field)
    bent = Elastic(sigma, grid)(given, np.random.default_rng(seed))
    # OpenCV reads the image at 1/32 of a pixel; the maps' nearest pixel may tip over where two are as near.
    slope = np.abs(np.diff(given["image"].astype(int), axis=1)).max()
    assert (bent["semantic"] != semantic).mean() < 0.002
    same = (bent["semantic"] == IGNORED) == (semantic == IGNORED)
    assert np.abs(bent["image"] - image)[same].max() <= 1 + slope / 16
    assert bent["semantic"].dtype == np.int32 and (bent["semantic"] == IGNORED).any()


def test_a_shift_by_hand():
    given = example()
    bent = bend(given, np.tile(np.float32([3, -2]), (*SIZE, 1)))  # every pixel shows what is 3 to the right, 2 above
    np.testing.assert_array_equal(bent["image"][2:, :-3], given["image"][:-2, 3:])
    np.testing.assert_array_equal(bent["semantic"][2:, :-3], given["semantic"][:-2, 3:])
    np.testing.assert_array_equal(bent["masks"][:, 2:, :-3], given["masks"][:, :-2, 3:])
    assert (bent["semantic"][:2] == IGNORED).all() and (bent["semantic"][:, -3:] == IGNORED).all()
    assert (bent["image"][:2] == MEAN_COLOUR).all() and not bent["masks"][:, :2].any()
    np.testing.assert_array_equal(bent["boxes"], given["boxes"] + [-3, 2, -3, 2])
    np.testing.assert_array_equal(bent["area"], given["area"])
    np.testing.assert_allclose(bent["keypoints"][:, 1:, :2], given["keypoints"][:, 1:, :2] + [-3, 2], atol=1e-4)
    assert not bent["keypoints"][:, 0].any()


def test_what_leaves_the_picture_is_dropped():
    given = example(objects=2)
    given["masks"][0] = 0
    given["masks"][0, 5:9, 2:8] = 1
    given["keypoints"][0, 1:, :2] = [3.5, 6.5], [7.5, 6.5], [5.0, 7.0]
    cut = bend(given, np.tile(np.float32([4, 0]), (*SIZE, 1)))
    assert cut["boxes"][0].tolist() == [0, 5, 4, 9] and cut["area"][0] == pytest.approx(given["area"][0] * 16 / 24)
    assert cut["keypoints"][0].tolist() == [[0, 0, 0], [0, 0, 0], [3.5, 6.5, 2], [1, 7, 2]]
    gone = bend(given, np.tile(np.float32([9, 0]), (*SIZE, 1)))
    assert gone["classes"].tolist() == [2] and all(
        len(gone[name]) == 1 for name in ("boxes", "area", "masks", "keypoints")
    )


@pytest.mark.parametrize("seed", range(5))
def test_objects_stay_on_their_pixels(seed):
    given = example(seed)
    bent = Elastic(2.0)(given, np.random.default_rng(seed))
    np.testing.assert_array_equal(bent["boxes"], tight_boxes(bent["masks"]))
    for n, label in enumerate(bent["classes"]):
        top = bent["semantic"] == label  # later objects hide earlier ones, in both pictures alike
        assert (bent["masks"][n][top] == 1).all() and top.any()
    # The place that a bent joint shows is where it was.
    nodes = np.random.default_rng(seed).normal(0, 2.0, (3, 3, 2))
    moved, before = (e["keypoints"][:, 1:].reshape(-1, 3) for e in (bent, given))
    for (x, y, visible), joint in zip(moved, before):
        assert visible == 2
        assert np.abs((x, y) + displacement(nodes, y, x) - joint[:2]).max() < 0.5


def test_it_is_the_same_for_a_seed_and_nothing_for_no_sigma():
    given = example()
    a, b, c = (Elastic()(given, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a["image"], b["image"])
    assert (a["image"] != c["image"]).any()
    for name, value in Elastic(0.0)(given, np.random.default_rng(0)).items():
        np.testing.assert_allclose(value, given[name], atol=1e-5, err_msg=name)


def test_what_cannot_be_bent_is_named():
    given = example()
    proposals = {**given, "proposals": given["boxes"]}
    del given["masks"]
    for each in (given, proposals):
        with pytest.raises(ValueError, match="elastic: boxes are bent by their masks"):
            Elastic()(each, np.random.default_rng(0))
