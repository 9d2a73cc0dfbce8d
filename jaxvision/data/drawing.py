"""Paints one scene: a textured ground, clutter, and objects that cover each other in true z-order.

Colour, texture, size, turn and place are drawn without looking at the class, and the ground and its clutter are painted
with the same colours and textures: only shape tells classes apart. An object's mask is where its coverage, less what
lies above it, is at least one half.
"""

import dataclasses
import functools

import cv2
import numpy as np

from jaxvision.data import person
from jaxvision.data.canvas import Canvas, Ink, turn

SIDE = 128  # of the picture, pixels
COLOURS = {
    "red": (210, 35, 40),
    "orange": (245, 140, 25),
    "yellow": (245, 225, 60),
    "green": (45, 155, 60),
    "turquoise": (60, 205, 200),
    "blue": (40, 75, 205),
    "purple": (130, 50, 165),
    "pink": (245, 150, 190),
    "brown": (115, 70, 35),
    "gray": (130, 130, 130),
    "white": (240, 240, 240),
    "black": (25, 25, 25),
}
PALETTE = np.array(list(COLOURS.values()), np.float32)
TEXTURES = ("plain", "gradient", "striped", "dotted", "noisy")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
UPRIGHT = np.pi / 6  # greatest lean of a digit: turned further, a six would be a nine

CONTRAST = 100.0  # RGB distance at which a fill stands out from what is under it
LEAST_VISIBLE, LEAST_PIXELS = 0.35, 30  # of every object: share of its unoccluded pixels, and pixels
LEAST_INSIDE = 0.7  # share of an object that lies within the picture
NEAR = 0.75  # share of objects that are put on or close to an earlier one


@dataclasses.dataclass(frozen=True)
class Style:
    """What a family of scenes may hold.

    sizes: least and greatest longer side of an unturned object, pixels. lean: greatest turn of a person, radians.
    crowds: share of scenes in which one object is a crowd.
    """

    sizes: tuple[int, int] = (16, 64)
    lean: float = np.pi
    crowds: float = 0.0


@dataclasses.dataclass
class Thing:
    """One painted object. coverage, clear (SIDE, SIDE) float32: its own, and the share that nothing above it takes."""

    name: str
    colour: str
    size: float
    crowd: bool
    coverage: np.ndarray
    joints: np.ndarray | None  # (14, 2) x, y in the picture
    clear: np.ndarray = dataclasses.field(default_factory=lambda: np.ones((SIDE, SIDE), np.float32))

    @property
    def mask(self) -> np.ndarray:
        return self.coverage * self.clear >= 0.5

    @property
    def keypoints(self) -> np.ndarray:
        """(14, 3) x, y, visibility: 2 visible, 1 covered by another object; all 0 outside the picture, as in COCO."""
        result = np.zeros((len(person.JOINTS), 3), np.float32)
        if self.joints is not None and not self.crowd:
            inside = ((self.joints >= 0) & (self.joints < SIDE)).all(1)
            column, row = self.joints[inside].astype(int).T
            result[inside, :2] = self.joints[inside]
            result[inside, 2] = np.where(self.clear[row, column] >= 0.5, 2, 1)
        return result


def paint(generator: np.random.Generator, names: list[str], style: Style, split: str = "train"):
    """Paints objects of the classes `names`, the first lowest.

    `split` says whose handwriting the digits show. Returns the picture (SIDE, SIDE, 3) uint8 and one Thing per name.
    """
    crowded = generator.integers(len(names)) if generator.random() < style.crowds else None
    while True:
        picture = ground(generator)
        things = []
        for row, name in enumerate(names):
            thing = _add(generator, picture, things, name, style, split, crowd=row == crowded)
            if thing is None:  # no room left: begin again
                break
            things.append(thing)
        else:
            return np.clip(np.rint(picture), 0, 255).astype(np.uint8), things


def _add(generator, picture, things, name, style, split, crowd) -> Thing | None:
    """Paints one object above the others, or nothing where 40 places leave it or another too little to be seen."""
    size = generator.uniform(*style.sizes)
    ink = draw(generator, name, size, style.lean, split, crowd)
    height, width = ink.layers.shape[:2]
    opaque = ink.layers[..., 0]
    for _ in range(40):
        x, y = place(generator, things, (width, height))
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, SIDE), min(y + height, SIDE)
        if left >= right or top >= bottom:
            continue
        window, part = np.s_[top:bottom, left:right], np.s_[top - y : bottom - y, left - x : right - x]
        cover = opaque[part]
        if cover.sum() < LEAST_INSIDE * opaque.sum() or np.count_nonzero(cover >= 0.5) < LEAST_PIXELS:
            continue
        if all(_seen(thing, window, cover) for thing in things):
            break
    else:
        return None
    colour = _paint_over(generator, picture[window], ink.layers[part])
    for thing in things:
        thing.clear[window] *= 1 - cover
    coverage = np.zeros((SIDE, SIDE), np.float32)
    coverage[window] = cover
    joints = None if ink.joints is None else ink.joints - ink.corner + (x, y)
    return Thing(name, colour, size, crowd, coverage, joints)


def _seen(thing: Thing, window, cover: np.ndarray) -> bool:
    """Whether enough of `thing` stays visible once `cover` lies over `window`."""
    before = thing.coverage[window] * thing.clear[window]
    lost = np.count_nonzero(before >= 0.5) - np.count_nonzero(before * (1 - cover) >= 0.5)
    if lost == 0:
        return True
    visible = np.count_nonzero(thing.mask) - lost
    return visible >= max(LEAST_PIXELS, LEAST_VISIBLE * np.count_nonzero(thing.coverage >= 0.5))


def place(generator, things, extent) -> tuple[int, int]:
    """Top left corner for an object of `extent` (width, height): anywhere, or near one that is there already."""
    extent = np.array(extent)
    centre = generator.uniform(0.3 * extent, SIDE - 0.3 * extent)
    if things and generator.random() < NEAR:
        row, column = np.nonzero(things[generator.integers(len(things))].coverage >= 0.5)
        other = np.array([column.mean(), row.mean()])
        reach = (extent.max() + np.hypot(np.ptp(row), np.ptp(column)) / 1.3) / 2
        angle = generator.uniform(0, 2 * np.pi)
        centre = other + generator.uniform(0.3, 0.8) * reach * np.array([np.cos(angle), np.sin(angle)])
    return tuple(np.rint(centre - extent / 2).astype(int).tolist())


# Shapes


def _wheel(radii) -> np.ndarray:
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], 1) * np.asarray(radii)[:, None]


def _unit(rings) -> list[np.ndarray]:
    """The rings, moved and scaled: centred, and the longer side 1."""
    points = np.concatenate(rings)
    low, high = points.min(0), points.max(0)
    return [(ring - (low + high) / 2) / (high - low).max() for ring in rings]


_CORNER = np.array([(3, 1), (1, 1), (1, 3)])  # of a cross: the lower right one
OUTLINES = {
    "circle": _unit([_wheel(np.ones(48))]),
    "square": _unit([_wheel(np.ones(4)) @ turn(np.pi / 4)]),
    "triangle": _unit([_wheel(np.ones(3))]),
    "star": _unit([_wheel(np.tile([1.0, 0.45], 5))]),
    "cross": _unit([np.concatenate([_CORNER @ turn(np.pi / 2 * quarter) for quarter in range(4)])]),
}


@functools.cache
def _handwriting() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # on demand: only digits need scikit-learn

    return load_digits(return_X_y=True)


@functools.cache
def digit_samples(digit: int, split: str) -> np.ndarray:
    """Rows of scikit-learn's digits that a split may show: eight tenths for training, one for each held-out split."""
    rows = np.flatnonzero(_handwriting()[1] == digit)
    tenth = np.arange(len(rows)) % 10
    return rows[{"train": tenth < 8, "validation": tenth == 8, "test": tenth == 9}[split]]


@functools.cache
def _digit_outline(row: int) -> list[np.ndarray]:
    """Outer and inner rings of one handwritten digit of 8x8 grey values 0..16."""
    glyph = np.pad(_handwriting()[0][row].reshape(8, 8).astype(np.float32), 1)
    smooth = cv2.resize(glyph, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    rings, _ = cv2.findContours((smooth > 8).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return _unit([ring[:, 0].astype(np.float64) for ring in rings if len(ring) > 8])


def draw(generator, name: str, size: float, lean: float, split: str, crowd: bool) -> Ink:
    """Inks one object, or a crowd of small ones that fills about the same size."""
    canvas = Canvas(int(np.ceil(0.8 * size)) + (10 if crowd else 3))
    if not crowd:
        return canvas.resolve(_draw_one(canvas, generator, name, size, lean, split))
    cells = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)])
    for cell in generator.permutation(cells)[: generator.integers(6, 10)]:
        centre = (cell + generator.uniform(-0.2, 0.2, 2)) * max(size, 40) / 3
        _draw_one(canvas, generator, name, max(size, 40) * generator.uniform(0.3, 0.42), lean, split, centre)
    return canvas.resolve()


def _draw_one(canvas, generator, name, size, lean, split, centre=(0.0, 0.0)) -> np.ndarray | None:
    centre = np.asarray(centre) + generator.uniform(-0.5, 0.5, 2)
    if name == "person":
        return person.draw(canvas, generator, size, generator.uniform(-lean, lean), centre)
    if name in DIGITS:
        samples = digit_samples(DIGITS.index(name), split)
        rings, angle = _digit_outline(int(generator.choice(samples))), generator.uniform(-UPRIGHT, UPRIGHT)
    else:
        rings, angle = OUTLINES[name], generator.uniform(-np.pi, np.pi)
    edge = generator.choice([0.0, 0.7, 1.2])  # some have an outline
    rings = [ring @ turn(angle) * (size - edge) + centre for ring in rings]
    canvas.polygons(rings, Canvas.FILL)
    if edge:
        for ring in rings:
            canvas.line(ring, edge, Canvas.SHADE, closed=True)
    return None


# Colour


def _tones(generator, main: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One look of a colour, and a second tone of it, darker or lighter."""
    main = np.clip(main + generator.normal(0, 8, 3), 0, 255)
    dark = main.mean() > 170 or (main.mean() > 70 and generator.random() < 0.5)
    return main, main + generator.uniform(0.25, 0.45) * ((0 if dark else 255) - main)


def texture(generator, main: np.ndarray, second: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float32 of two colours: plain, a gradient, stripes, dots or blotches."""
    kind = TEXTURES[generator.integers(len(TEXTURES))]
    if kind == "noisy":
        cell = generator.uniform(2, 6)
        coarse = generator.random((int(height / cell) + 2, int(width / cell) + 2), np.float32)
        share = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        y, x = np.ogrid[0:height, 0:width]
        along = np.array([np.cos(angle := generator.uniform(0, 2 * np.pi)), np.sin(angle)])
        u, v = x * along[0] + y * along[1], y * along[0] - x * along[1]
        pace = 2 * np.pi / generator.uniform(5, 12)
        if kind == "plain":
            share = np.zeros((height, width))
        elif kind == "gradient":
            share = (u - u.min()) / max(np.ptp(u), 1)
        elif kind == "striped":
            share = np.clip(2 * np.sin(u * pace) + 0.5, 0, 1)
        else:
            share = np.clip(3 * (np.sin(u * pace) * np.sin(v * pace) - 0.2), 0, 1)
    return (main + share[..., None].astype(np.float32) * (second - main)).astype(np.float32)


def _paint_over(generator, picture: np.ndarray, layers: np.ndarray) -> str:
    """Colours an object into its window of the picture so that it stands out there. Returns the colour's name."""
    under = picture[::3, ::3].reshape(-1, 1, 3)
    apart = (np.linalg.norm(under - PALETTE, axis=2) >= CONTRAST).mean(0)
    chosen = generator.choice(np.flatnonzero(apart >= min(0.9, apart.max())))
    main, second = _tones(generator, PALETTE[chosen])
    shade = main * 0.3 if main.mean() > 60 else main + 0.6 * (255 - main)
    trim = main + 0.85 * ((255 if main.mean() < 150 else 0) - main)
    cover, accents, lines = layers[..., :1], layers[..., 1:2], layers[..., 2:]
    fill = texture(generator, main, second, *picture.shape[:2])
    picture += fill * (cover - accents - lines) + trim * accents + shade * lines - picture * cover
    return list(COLOURS)[chosen]


def ground(generator) -> np.ndarray:
    """(SIDE, SIDE, 3) float32: a texture, cluttered with lumps, strokes, broken stripes and patches of noise."""
    picture = texture(generator, *_tones(generator, generator.choice(PALETTE)), SIDE, SIDE)
    for _ in range(generator.integers(3, 9)):
        clutter = CLUTTER[generator.integers(len(CLUTTER))]
        mask = clutter(generator, generator.uniform(0, SIDE, 2), generator.uniform(8, 40)).astype(np.float32)
        mask *= generator.uniform(0.4, 1.0) / 255
        x, y, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
        if width == 0:  # all of it fell outside the picture
            continue
        window = np.s_[y : y + height, x : x + width]
        fill = texture(generator, *_tones(generator, generator.choice(PALETTE)), height, width)
        picture[window] += mask[window][..., None] * (fill - picture[window])
    return picture


def _lump(generator, centre, size) -> np.ndarray:
    """A closed curve with a few deep bays, never close to a circle."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = [0.35 * np.sin(order * angles + generator.uniform(0, 2 * np.pi)) for order in (2, 3)]
    radii = size * 0.6 * (1 + sum(waves))
    ring = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [np.rint(ring * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def _stroke(generator, centre, size) -> np.ndarray:
    walk = centre + np.cumsum(generator.normal(0, size * 0.4, (generator.integers(3, 7), 2)), 0)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.polylines(
        mask, [np.rint(walk * 16).astype(np.int32)], False, 255, int(generator.integers(1, 5)), cv2.LINE_AA, 4
    )
    return mask


def _stripes(generator, centre, size) -> np.ndarray:
    angle = generator.uniform(0, 2 * np.pi)
    along, across = turn(angle)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for step in range(generator.integers(2, 6)):
        ends = centre + across * step * size / 5 + np.outer(generator.uniform(-0.8, 0.8, 2) * size, along)
        cv2.polylines(mask, [np.rint(ends * 16).astype(np.int32)], False, 255, 2, cv2.LINE_AA, 4)
    return mask


def _patch(generator, centre, size) -> np.ndarray:
    """Specks that thin out away from the centre."""
    y, x = np.ogrid[0:SIDE, 0:SIDE]
    weight = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (0.5 * size**2), dtype=np.float32)
    coarse = cv2.resize(generator.random((SIDE // 2, SIDE // 2), np.float32), (SIDE, SIDE))
    return np.clip(6 * (weight * coarse - 0.3), 0, 1) * 255


CLUTTER = (_lump, _stroke, _stripes, _patch)
