"""An articulated figure seen from the front, with 14 joints in the order of Leeds Sports Pose.

Left and right are the figure's own, so its right limbs lie on the viewer's left. Each limb has a seam stripe along its
outer side and the feet point outwards: a mirrored picture with left and right joints swapped is again one of this kind.
"""

import numpy as np

from jaxvision.data.canvas import Canvas, turn

JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "neck", "head_top",
)  # fmt: skip
FLIP_PAIRS = ((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9))
# CrowdPose's constants of object keypoint similarity, in the order above.
SIGMAS = np.array([89, 87, 107, 107, 87, 89, 62, 72, 79, 79, 72, 62, 79, 79], np.float32) / 1000

LEGS, ARMS = ((2, 1, 0), (3, 4, 5)), ((8, 7, 6), (9, 10, 11))  # right, left; from the trunk outwards
NECK, HEAD_TOP = 12, 13
# Widths and lengths as shares of about a standing figure's height; everything is stout, to be read at 32 pixels.
LEG, ARM, HEAD, OUTLINE = 0.125, 0.105, 0.115, 0.016


def pose(generator: np.random.Generator) -> np.ndarray:
    """(14, 2) joints of a random pose: upright, the middle of the hips at the origin, about one unit high."""
    joints = np.zeros((14, 2))
    trunk = turn(generator.uniform(-0.15, 0.15))
    head = trunk @ turn(generator.uniform(-0.2, 0.2))
    joints[NECK] = (0, -0.30) @ trunk
    joints[HEAD_TOP] = joints[NECK] + (0, -0.04 - 2 * HEAD) @ head
    for side, leg, arm in zip((-1, 1), LEGS, ARMS):
        mirror = np.array([side, 1])

        def bone(length, angle, mirror=mirror):  # angle: outwards from straight down
            return length * np.array([np.sin(angle), np.cos(angle)]) * mirror

        joints[arm[0]] = joints[NECK] + (0.15 * side, 0.05) @ trunk
        joints[leg[0]] = 0.08 * side, 0
        raised, spread = generator.uniform(0.15, 2.5), generator.uniform(0.0, 0.7)
        elbow, knee = generator.uniform(-1.0, 1.5), generator.uniform(-0.8, 0.25)
        joints[arm[1]] = joints[arm[0]] + bone(0.20, raised)
        joints[arm[2]] = joints[arm[1]] + bone(0.19, raised + elbow)
        joints[leg[1]] = joints[leg[0]] + bone(0.23, spread)
        joints[leg[2]] = joints[leg[1]] + bone(0.22, spread + knee)
    return joints


def draw(canvas: Canvas, generator: np.random.Generator, size: float, angle: float, centre=(0.0, 0.0)) -> np.ndarray:
    """Inks one figure whose longer unturned side is `size` pixels and returns its joints (14, 2) in pixels."""
    joints = pose(generator)
    radii = np.full((14, 1), ARM / 2)
    radii[[joint for leg in LEGS for joint in leg]] = LEG / 2
    radii[[0, 5]] = 1.1 * LEG  # shoes
    radii[HEAD_TOP] = 0  # lies on the head's rim
    low, high = (joints - radii - OUTLINE).min(0), (joints + radii + OUTLINE).max(0)
    scale = size / (high - low).max()
    joints = (joints - (low + high) / 2) @ turn(angle) * scale + centre

    leg, arm, outline = LEG * scale, ARM * scale, OUTLINE * scale
    right_first = generator.random() < 0.5
    for side, limb in list(zip((-1, 1), LEGS))[:: 1 if right_first else -1]:
        _limb(canvas, joints[list(limb)], leg, outline, side, foot=True)
    shoulders, hips = joints[[8, 9]], joints[[3, 2]]
    trunk = np.concatenate([shoulders, hips])
    canvas.line(trunk, arm + 2 * outline, Canvas.SHADE, closed=True)
    canvas.line(trunk, arm, Canvas.FILL, closed=True)
    canvas.polygons([trunk], Canvas.FILL)
    for side, limb in list(zip((-1, 1), ARMS))[:: 1 if right_first else -1]:
        _limb(canvas, joints[list(limb)], arm, outline, side)
    _head(canvas, joints[NECK], joints[HEAD_TOP], scale)
    return joints


def _limb(canvas: Canvas, chain: np.ndarray, width: float, outline: float, side: int, foot: bool = False) -> None:
    """Two segments from the trunk outwards, with the seam along the outer side: the viewer's left for a right limb."""
    along = np.diff(chain, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    outward = np.stack([along[:, 1], -along[:, 0]], 1) * side
    if foot:
        toe = chain[2] + (0.9 * outward[1] + 0.25 * along[1]) * width
        canvas.line([chain[2], toe], 0.8 * width + 2 * outline, Canvas.SHADE)
    canvas.line(chain, width + 2 * outline, Canvas.SHADE)
    canvas.line(chain, width, Canvas.FILL)
    for start, stop, shift in zip(chain[:-1], chain[1:], 0.24 * width * outward):
        canvas.line([start + shift, stop + shift], 0.28 * width, Canvas.TRIM)


def _head(canvas: Canvas, neck: np.ndarray, top: np.ndarray, scale: float) -> None:
    down = (neck - top) / np.linalg.norm(neck - top)
    across = np.array([down[1], -down[0]])
    centre = top + HEAD * scale * down
    canvas.line([neck, centre], 0.09 * scale, Canvas.FILL)
    canvas.disc(centre, (HEAD + OUTLINE) * scale, Canvas.SHADE)
    canvas.disc(centre, HEAD * scale, (255, 110, 0))  # a face paler or darker than the suit
    for side in (-1, 1):
        canvas.disc(centre + (0.045 * side * across + 0.01 * down) * scale, 0.026 * scale, Canvas.SHADE)
