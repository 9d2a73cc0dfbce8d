import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import Network, create, example
from tiny import tiny_config

from jaxvision import architecture as architectures
from jaxvision import tasks
from jaxvision.batch import blank
from jaxvision.data.loader import Batches
from jaxvision.data.scenes import open_scenes
from jaxvision.models.single_object.features import regression_loss
from jaxvision.models.single_object.pose import displaced, fit_errors, losses, to_places
from jaxvision.train.init import load_variables
from jaxvision.train.stages import run

TINY = dict(
    name="pose",
    backbone=dict(name="darknet", stages=(((8, 3, 2),), ((8, 3, 2),)), pools=0),
    cells=4,
    fc=(16,),
    dropout=0.0,
    side=24,
    samples=3,
)


@pytest.fixture(scope="module")
def network():
    return Network("pose")


@pytest.fixture(scope="module")
def cascade():
    return Network("pose", stages=2, samples=3, sigma=1.5)


def test_losses_computed_by_hand():
    rng = np.random.default_rng(0)
    keypoints = np.concatenate([rng.uniform(0, 60, (3, 2, 5, 2)), rng.integers(0, 3, (3, 2, 5, 1))], -1)
    batch = {
        "keypoints": keypoints.astype(np.float32),
        "valid": np.array([[True, False], [True, False], [False, False]]),
    }
    frames = np.array([[0, 0, 60, 60], [10, 20, 50, 40], [0, 0, 60, 60]], np.float32)
    outputs = {"places": rng.normal(0, 0.3, (3, 5, 2)).astype(np.float32), "frames": frames}
    total, count = 0.0, 0
    for i, j in np.ndindex(2, 5):
        x, y, visible = keypoints[i, 0, j]
        if visible:  # hidden joints teach, those that are not labelled do not
            x1, y1, x2, y2 = frames[i]
            target = [(x - (x1 + x2) / 2) / (x2 - x1), (y - (y1 + y2) / 2) / (y2 - y1)]
            total, count = total + ((outputs["places"][i, j] - target) ** 2).sum(), count + 1
    found = losses(outputs, batch, joint_loss=regression_loss("l2", 1))
    assert 0 < count < 10 and (keypoints[:2, 0, :, 2] == 1).any()
    np.testing.assert_allclose(found["joint"], (total, count), rtol=1e-5)
    real = losses(outputs, {**batch, "real": np.array([False, True, True])}, joint_loss=regression_loss("l2", 1))
    assert real["joint"][1] == (keypoints[1, 0, :, 2] > 0).sum()


def test_the_box_of_a_person_is_what_the_network_sees(network):
    """In a box that is the canvas it sees what it sees without; in another one joints are told in shares of that."""
    batch = network.batch([example(0), example(1)])
    boxed = create("pose", frame="box", side=64)
    assert boxed.task == "region_pose" and "proposals" in tasks.get("region_pose").fields

    @jax.jit
    def find(boxes):
        return boxed.model.apply(network.variables, {**batch, "proposals": boxes, "proposals_valid": valid})

    valid = np.array([[True], [True]])
    whole, half = (np.tile(np.array(box, np.float32), (2, 1, 1)) for box in ([0, 0, 64, 64], [8, 16, 40, 32]))
    expected = network.forward(network.variables, batch)[0]
    found = find(whole)
    np.testing.assert_allclose(found["joints"], expected["joints"], atol=1e-3)
    found = find(half)
    np.testing.assert_allclose(found["joints"], [24, 24] + np.array(found["places"]) * [32, 16], rtol=1e-5)
    np.testing.assert_allclose(to_places(found["joints"], half), found["places"], atol=1e-5)


def test_joints_are_displaced_by_the_gaussian_of_the_errors():
    rng = np.random.default_rng(1)
    keypoints = np.concatenate([rng.uniform(10, 50, (5, 2)), [[2], [2], [1], [0], [2]]], 1).astype(np.float32)
    errors = jnp.stack([rng.uniform(-0.2, 0.2, (5, 2)), rng.uniform(0.05, 0.2, (5, 2))])
    extent = np.linalg.norm(keypoints[1, :2] - keypoints[4, :2])
    draw = functools.partial(displaced, jnp.array(keypoints), True, errors, sigma=2.0, torso=(1, 4), samples=5)
    rows, boxes, targets, counted = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 4000))
    assert counted.sum(1).tolist() == [4] * 4000 and 3 not in rows[np.array(counted)]
    np.testing.assert_allclose(boxes[..., 2:] - boxes[..., :2], np.full(boxes[..., 2:].shape, 2 * extent), rtol=1e-4)
    centres = np.array(boxes[..., :2] + boxes[..., 2:]) / 2
    moved = centres - keypoints[rows, :2]
    np.testing.assert_allclose(targets, -moved / (2 * extent), atol=1e-5)
    for joint in (0, 1, 2, 4):
        own = moved[np.array(rows) == joint] / extent
        np.testing.assert_allclose(own.mean(0), errors[0, joint], atol=0.02)
        np.testing.assert_allclose(own.std(0), errors[1, joint], rtol=0.06)
    torsoless = jnp.array(keypoints).at[4, 2].set(0)  # a pose without its torso has no diameter
    assert not displaced(torsoless, *draw.args[1:], jax.random.key(0), **draw.keywords)[3].any()


def test_each_drawn_joint_is_another_one():
    keypoints = jnp.ones((5, 3)) * jnp.arange(5)[:, None] + 1
    draw = functools.partial(displaced, keypoints, True, jnp.zeros((2, 5, 2)), sigma=1.0, torso=(1, 4), samples=3)
    rows = np.array(jax.jit(jax.vmap(lambda key: draw(key)[0]))(jax.random.split(jax.random.key(0), 300)))
    assert all(len(set(row)) == 3 for row in rows.tolist())
    assert (np.bincount(rows.ravel(), minlength=5) > 130).all()  # each as likely: 180


def test_a_later_stage_moves_joints_in_squares_around_them(network, cascade):
    batch = cascade.batch([example(0), example(1)])
    variables = jax.tree.map(np.array, cascade.variables)
    params = variables["params"]
    params |= {name: network.variables["params"][name] for name in network.variables["params"]}
    params["joints"]["bias"] = np.array(params["joints"]["bias"]) + np.arange(10) / 30  # joints that lie apart
    first = np.array(
        network.forward({"params": {k: params[k] for k in network.variables["params"]}}, batch)[0]["joints"]
    )
    assert (params["stage2"]["joints"]["kernel"] == 0).all()  # as it begins
    np.testing.assert_allclose(cascade.forward(variables, batch)[0]["joints"], first, atol=1e-4)
    params["stage2"]["joints"]["bias"][:] = np.linspace(-0.2, 0.3, 10)
    moved = cascade.forward(variables, batch)[0]["joints"]
    sides = 1.5 * np.linalg.norm(first[:, 1] - first[:, 4], axis=-1)
    assert (sides > 3).all()
    step = np.linspace(-0.2, 0.3, 10).reshape(5, 2) * sides[:, None, None]
    np.testing.assert_allclose(moved, first + step, atol=1e-3)


def test_the_gradient_of_a_later_stage_is_finite_where_all_joints_are_one(cascade):
    """As they are in the beginning: the torso has no length then."""
    batch = cascade.batch([example(0), example(1)])

    @jax.jit
    @jax.grad
    def gradient(params):
        return cascade.architecture.model.apply({"params": params}, batch)["joints"].sum()

    found = gradient(cascade.variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert np.abs(found["joints"]["bias"]).max() > 0 and np.abs(found["stage2"]["joints"]["bias"]).max() > 0


def test_a_later_stage_sees_what_is_around_the_joint(cascade):
    """Another picture there changes what it says; where the picture is the same, nothing changes."""
    batch = cascade.batch([example(0), example(0)])
    variables = jax.tree.map(lambda leaf: np.array(leaf), cascade.variables)
    params = variables["params"]
    params["joints"]["bias"][:] = np.array([[-0.3, -0.3], [-0.1, -0.3], [0.3, -0.3], [-0.3, 0.3], [-0.3, -0.1]]).ravel()
    kernel = params["stage2"]["joints"]["kernel"]  # the first stage's are zeros: it says the same of every picture
    kernel[:] = np.random.default_rng(0).normal(0, 0.1, kernel.shape)
    image = np.array(batch["image"])
    image[1, 50:, 40:] = 255  # far from all joints but none
    image[1, :20, 44:] = 255  # around the third
    joints = np.array(cascade.forward(variables, {**batch, "image": image})[0]["joints"])
    same = np.abs(joints[0] - joints[1]).max(-1) < 1e-4
    assert same.tolist() == [True, True, False, True, True]


def test_only_the_last_stage_has_gradients(cascade):
    batch = cascade.batch([example(0), example(1)])

    @jax.jit
    def gradient(params):
        def loss(params):
            rngs = {"dropout": jax.random.key(0), "sampler": jax.random.key(1)}
            outputs = cascade.architecture.model.apply({"params": params}, batch, train=True, rngs=rngs)
            return cascade.architecture.losses(outputs, batch)["joint"][0]

        return jax.grad(loss)(params)

    moved = {
        name: any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(tree))
        for name, tree in gradient(cascade.variables["params"]).items()
    }
    assert moved == {"trunk": False, "fc6": False, "joints": False, "errors2": False, "stage2": True}


def test_a_later_stage_learns_to_bring_joints_home():
    """From a first stage that says the same of both pictures, after some hundred steps on them."""
    network = Network("pose", stages=2, samples=5, sigma=2.0)
    batch = network.batch(network.pictures)
    truth = batch["keypoints"][:, 0, :, :2]
    params = jax.tree.map(jnp.array, network.variables["params"])
    params["joints"]["bias"] = (truth.mean(0) / 64 - 0.5).ravel()
    extent = np.linalg.norm(truth[:, 1] - truth[:, 4], axis=-1)
    errors = (truth.mean(0) - truth) / extent[:, None, None]
    params["errors2"] = jnp.stack([errors.mean(0), errors.std(0)])
    others = {name: leaf for name, leaf in params.items() if name != "stage2"}
    optimizer = optax.adam(5e-3)

    @jax.jit
    def step(stage, state, key):
        def loss(stage):
            rngs = {"dropout": key, "sampler": key}
            variables = {"params": {**others, "stage2": stage}}
            total, count = network.architecture.losses(
                network.architecture.model.apply(variables, batch, train=True, rngs=rngs), batch
            )["joint"]
            return total / count

        value, gradient = jax.value_and_grad(loss)(stage)
        update, state = optimizer.update(gradient, state)
        return optax.apply_updates(stage, update), state, value

    stage, losses = params["stage2"], []
    state = optimizer.init(stage)
    for t in range(300):
        stage, state, value = step(stage, state, jax.random.key(t))
        losses.append(float(value))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) / 3
    found = network.forward({"params": {**others, "stage2": stage}}, batch)[0]["joints"]
    before, after = (np.linalg.norm(joints - truth, axis=-1).mean() for joints in (truth.mean(0), found))
    assert after < before / 2


@pytest.fixture(scope="module")
def people(prepared):
    return open_scenes("people", "train", prepared("people"))


def test_errors_are_those_of_the_stage_before(people):
    options = {**TINY, "stages": 2}
    architecture = architectures.create(**options)
    fields = tasks.get("pose").fields
    batches = Batches(
        people, batch_size=12, fields=fields, canvases=[(64, 64)], max_boxes=1
    )  # 32 images: a part is filled
    variables = architecture.init(jax.random.key(0), blank(fields, (64, 64), joints=14))
    variables["params"]["joints"]["bias"] = jnp.linspace(-0.3, 0.3, 28)
    fitted = fit_errors(architecture, variables, people, "", batches)
    one = architectures.create(**{**options, "stages": 1}).model
    alone = {"params": {name: variables["params"][name] for name in ("trunk", "fc6", "joints")}}
    apply = jax.jit(one.apply)
    errors = [[] for _ in range(14)]
    for t in range(len(batches)):
        batch = batches[t]
        found = np.array(apply(alone, {"image": batch["image"], "image_size": batch["image_size"]})["joints"])
        for i in np.flatnonzero(batch["real"]):
            truth = batch["keypoints"][i, 0]
            if truth[9, 2] and truth[2, 2]:
                extent = np.hypot(*(truth[9, :2] - truth[2, :2]))
                for j in np.flatnonzero(truth[:, 2]):
                    errors[j].append((found[i, j] - truth[j, :2]) / extent)
    expected = np.stack([[np.mean(e, 0) for e in errors], [np.std(e, 0) for e in errors]])
    assert fitted["params"]["errors2"].shape == (2, 14, 2) and len(errors[0]) > 20
    np.testing.assert_allclose(fitted["params"]["errors2"], expected, rtol=1e-3, atol=1e-3)
    for name in ("trunk", "fc6", "joints", "stage2"):
        same = jax.tree.map(np.array_equal, fitted["params"][name], jax.device_get(variables["params"][name]))
        assert all(jax.tree.leaves(same))


def test_errors_of_one_stage_alone_are_nothing(people):
    with pytest.raises(ValueError, match=r"set architecture\.stages to 2 or more"):
        fit_errors(architectures.create(**TINY), {}, people, "", None)


def test_a_cascade_learns_stage_by_stage(prepared, tmp_path):
    two = dict(stages=2)
    plan = (
        dict(name="first"),
        dict(name="errors", fit="fit_errors", architecture=two, init=(("^(stage2|errors2)", "fresh"), (".*", "first"))),
        dict(name="second", architecture=two, init=((".*", "errors"),), optimizer=dict(trainable="^stage2/")),
    )
    data = {"source": "scenes/people", "max_boxes": 1, "transforms": {"flip": {}}}
    config = tiny_config("resnet", prepared("people"), architecture=TINY, steps=2, data=data, stages=plan)
    scores = run(config, str(tmp_path))["validation"]
    assert {"pck@0.2", "pck_torso@0.2", "pcp", "pcp_loose", "pdj@0.2", "loss/joint"} <= scores.keys()
    first, errors, second = (load_variables(str(tmp_path / stage["name"]))["params"] for stage in plan)

    def equal(a, b, name):
        return all(jax.tree.leaves(jax.tree.map(np.array_equal, a[name], b[name])))

    assert all(equal(first, second, name) for name in ("trunk", "fc6", "joints"))
    assert equal(errors, second, "errors2") and not equal(errors, second, "stage2")
    assert np.ptp(second["errors2"][1]) > 0  # measured, not as it begins
    assert any((tmp_path / "second" / "pictures").glob("*_pdj.png"))


def test_it_is_alexnet_with_two_outputs_for_each_joint():
    """61,100,840 parameters with the 1000 classes of ImageNet."""
    batch = blank(tasks.get("pose").fields, (220, 220), joints=14)

    def shapes(**options):
        return jax.eval_shape(architectures.create("pose", **options).init, jax.random.key(0), batch)["params"]

    params = shapes()
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 61_100_840 + (4096 + 1) * (28 - 1000)
    three = shapes(stages=3)
    assert three["stage2"].keys() == params.keys() and three["errors3"].shape == (2, 14, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame": "person"}, "frame 'person' is not one of image, box"),
        ({"torso": (9, 14)}, "must be two of the 14 joints"),
        ({"loss": "l3"}, "loss 'l3' is not one of"),
        ({"stages": 0}, "must be positive"),
        ({"side": 0}, "side 0 and sigma 2.0 must be positive"),
        ({"backbone": "fcn8s"}, "A backbone is a classifier"),
    ],
)
def test_what_cannot_be_meant_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.create("pose", **options)


def test_a_set_of_other_joints_is_named():
    batch = blank(tasks.get("pose").fields, (64, 64), joints=13)
    with pytest.raises(ValueError, match=r"The set has 13 joints, the network 14: set architecture\.joints"):
        jax.eval_shape(architectures.create(**TINY).init, jax.random.key(0), batch)
