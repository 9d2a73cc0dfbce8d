import numpy as np
import pytest

from jaxvision.data.person import JOINTS
from jaxvision.metrics.pose import LIMBS, PoseScores

RNG = np.random.default_rng(0)


def people(count=40, names=JOINTS):
    """(predicted, truth, box) of people whose joints are unlabelled, hidden or visible, and found more or less well."""
    found = []
    for _ in range(count):
        xy = RNG.uniform(0, 100, (len(names), 2))
        truth = np.concatenate([xy, RNG.choice([0, 1, 2], (len(names), 1), p=[0.2, 0.3, 0.5])], 1)
        truth[truth[:, 2] == 0] = 0
        low = RNG.uniform(0, 20, 2)
        box = np.concatenate([low, low + RNG.uniform(20, 100, 2)])
        found.append((xy + RNG.normal(0, 12, xy.shape), truth, box))
    return found


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values)


def slow_shares(data, names, right, least):
    """The mean over joints of the share of images where right(person, joint) holds; None: it does not count."""
    shares = []
    for j in range(len(names)):
        verdicts = [right(*person, j) for person in data if person[1][j, 2] >= least]
        verdicts = [v for v in verdicts if v is not None]
        shares.append(mean(verdicts) if verdicts else None)
    return mean(shares)


def slow(data, names, least):
    place = {name: i for i, name in enumerate(names)}

    def distance(p, t, j):
        return ((p[j, 0] - t[j, 0]) ** 2 + (p[j, 1] - t[j, 1]) ** 2) ** 0.5

    def torso(t):
        a, b = t[place["left_shoulder"]], t[place["right_hip"]]
        return ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5 if a[2] and b[2] else None

    def pck(p, t, box, j):
        return distance(p, t, j) < 0.2 * max(box[2] - box[0], box[3] - box[1])

    def pck_torso(p, t, box, j):
        return None if torso(t) is None else distance(p, t, j) < 0.2 * torso(t)

    def pdj(p, t, box, j):
        return None if torso(t) is None else distance(p, t, j) <= 0.2 * torso(t)

    strict, loose = [], []
    for one, other in LIMBS.values():
        both, either = [], []
        for p, t, _ in data:
            if all(t[place[n], 2] >= least for n in one + other):
                ends = [np.mean([t[place[n], :2] for n in end], 0) for end in (one, other)]
                own = [np.mean([p[place[n]] for n in end], 0) for end in (one, other)]
                length = np.hypot(*(ends[0] - ends[1]))
                off = [np.hypot(*(a - b)) for a, b in zip(ends, own)]
                both.append(off[0] <= length / 2 and off[1] <= length / 2)
                either.append((off[0] + off[1]) / 2 <= length / 2)
        strict.append(mean(both))
        loose.append(mean(either))
    return {
        "pck@0.2": slow_shares(data, names, pck, least),
        "pck_torso@0.2": slow_shares(data, names, pck_torso, least),
        "pdj@0.2": slow_shares(data, names, pdj, least),
        "pcp": mean(strict),
        "pcp_loose": mean(loose),
    }


def scored(data, **options):
    scores = PoseScores(JOINTS, **options)
    for person in data:
        scores.update(*person)
    return scores


@pytest.mark.parametrize("visible", [False, True])
def test_scores_are_those_of_plain_loops(visible):
    data = people()
    found = scored(data, visible=visible).compute()
    expected = slow(data, JOINTS, 2 if visible else 1)
    assert found == pytest.approx(expected, rel=1e-12)
    assert 0.1 < found["pck_torso@0.2"] < found["pck@0.2"] < 0.95 and found["pcp"] < found["pcp_loose"] < 1


def test_parts_that_are_merged_score_as_one():
    data = people(20)
    first, second = scored(data[:7]), scored(data[7:])
    first.merge(second)
    assert first.compute() == scored(data).compute()


def upright():
    """A person whose torso, from left shoulder to right hip, and every limb is 10 pixels long."""
    truth = np.zeros((14, 3))
    truth[:, 2] = 2
    truth[JOINTS.index("left_shoulder"), :2] = 50, 50
    truth[JOINTS.index("right_hip"), :2] = 56, 58
    return truth


def test_the_bounds_are_strict_for_pck_and_not_for_pdj():
    truth = upright()
    found = truth[:, :2].copy()
    found[0, 0] += 2  # exactly a fifth of the torso and of the box
    scores = PoseScores(JOINTS)
    scores.update(found, truth, [0, 0, 5, 10])
    assert scores.pck(0.2)[0] == scores.pck(0.2, "torso")[0] == 0 and scores.pdj(0.2)[0] == 1
    assert scores.pck(0.2001)[0] == scores.pck(0.2001, "torso")[0] == 1 and scores.pdj(0.1999)[0] == 0
    assert (scores.pck(0.2)[1:] == 1).all()


def test_pcp_wants_both_ends_or_their_mean():
    truth = np.zeros((14, 3))
    truth[[0, 1]] = [0, 0, 2], [0, 10, 2]  # the right shin alone
    for off, strict, loose in ((5, 1, 1), (6, 0, 1), (10, 0, 1), (11, 0, 0)):
        found = truth[:, :2].copy()
        found[0, 0] += off
        scores = PoseScores(JOINTS)
        scores.update(found, truth, [0, 0, 10, 10])
        shin = list(scores.limbs).index("right_shin")
        assert (scores.pcp()[shin], scores.pcp(strict=False)[shin]) == (strict, loose)
        assert np.isnan(np.delete(scores.pcp(), shin)).all()


def test_joints_that_are_not_labelled_count_nowhere():
    truth = upright()
    truth[3] = 0
    found = truth[:, :2].copy()
    found[3] = 1000
    scores = PoseScores(JOINTS)
    scores.update(found, truth, [0, 0, 60, 60])
    assert scores.compute()["pck@0.2"] == 1 and np.isnan(scores.pck(0.2)[3])
    hidden = upright()
    hidden[3] = 5, 5, 1
    scores.update(found, hidden, [0, 0, 60, 60])
    assert scores.pck(0.2)[3] == 0
    visible = PoseScores(JOINTS, visible=True)
    visible.update(found, hidden, [0, 0, 60, 60])
    assert np.isnan(visible.pck(0.2)[3])


def test_names_without_torso_or_limbs_give_nan():
    scores = PoseScores(("nose", "tail"))
    scores.update([[1, 1], [2, 2]], [[1, 1, 2], [50, 2, 2]], [0, 0, 60, 60])
    found = scores.compute()
    assert (
        found["pck@0.2"] == 0.5 and np.isnan([found[n] for n in ("pck_torso@0.2", "pdj@0.2", "pcp", "pcp_loose")]).all()
    )


def test_what_cannot_be_scored_is_named():
    scores = PoseScores(JOINTS)
    with pytest.raises(ValueError, match="no labelled joint"):
        scores.compute()
    with pytest.raises(ValueError, match=r"\(13, 2\), \(14, 3\), \(4,\); expected \(14, 2\)"):
        scores.update(np.zeros((13, 2)), np.zeros((14, 3)), np.zeros(4))
    broken = np.zeros((14, 2))
    broken[12, 1] = np.nan
    with pytest.raises(ValueError, match="joint neck is predicted as NaN"):
        scores.update(broken, np.zeros((14, 3)), np.zeros(4))
    scores.update(np.zeros((14, 2)), np.zeros((14, 3)), np.ones(4))
    with pytest.raises(ValueError, match="no labelled joint"):
        scores.compute()
