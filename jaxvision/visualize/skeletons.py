"""Which joints are connected in a picture."""

# COCO's persons, Leeds Sports Pose's (`jaxvision.data.person`) and FLIC's (`jaxvision.data.pose_sets`).
COCO = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
LEEDS = (
    (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11),
    (12, 13), (8, 2), (9, 3),
)  # fmt: skip
FLIC = ((0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (0, 6), (3, 7), (6, 7), (8, 10), (9, 10))
SKELETONS = {17: COCO, 14: LEEDS, 11: FLIC}  # by the number of joints; others are drawn as points
