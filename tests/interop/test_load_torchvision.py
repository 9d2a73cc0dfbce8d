"""torchvision's models by name, with weights in every form that people have them in."""

import hashlib
import json
import pathlib
import runpy

import jax
import numpy as np
import pytest
from test_files import write_safetensors

import jaxvision
from jaxvision.interop import cards
from jaxvision.interop.convert import BLANK, StateDictError, abstract, to_torch
from jaxvision.interop.files import WeightsError
from jaxvision.interop.torchvision import MODULES, builder_of, load_trunk
from jaxvision.train.init import initialize

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FORMULA = runpy.run_path(str(GOLDEN / "formula.py"))
NARROW = dict(widths=(4, 4, 8, 8), stem_width=4)
DETECTOR = dict(
    NARROW, depths=(1, 1, 1, 1), fpn=8, box_features=16, mask_convs=(8,) * 4, pre_nms=(32, 32), post_nms=(16, 16)
)


def shapes_of(name, **options):
    """{entry: shape} of a model, without those that count batches."""
    architecture = builder_of(name).create(**options)
    blank = {"image": np.zeros((1, 64, 64, 3), np.float32), "image_size": np.array([[64, 64]], np.int32)}
    variables = jax.tree.map(lambda s: np.zeros(s.shape), jax.eval_shape(architecture.init, jax.random.key(0), blank))
    entries = jaxvision.to_torchvision(name, variables)
    return {name: value.shape for name, value in entries.items() if not name.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def resnet18():
    return FORMULA["state_dict"](shapes_of("resnet18", **NARROW))


@pytest.fixture(scope="module")
def maskrcnn():
    return FORMULA["state_dict"](shapes_of("maskrcnn_resnet50_fpn", **DETECTOR))


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def card_for(monkeypatch, name, card, path, **changes):
    """Publishes a file: gives it the name and the card that its digest says."""
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    facts = next(iter(cards.CARDS[name].values()))
    facts = cards.Card(**{**vars(facts), "file": f"{name}-{digits}", **changes})
    monkeypatch.setitem(cards.CARDS, name, {**cards.CARDS[name], card: facts})
    return path.rename(path.with_name(f"{name}-{digits}.pth"))


def test_a_mapping_there_and_back(resnet18):
    architecture, variables = jaxvision.load_torchvision("resnet18", resnet18, **NARROW)
    assert architecture.name == "resnet" and architecture.options["num_classes"] == 1000
    back = jaxvision.to_torchvision("resnet18", variables)
    counted = {name for name in back if name.endswith("num_batches_tracked")}
    equal({name: value for name, value in back.items() if name not in counted}, resnet18)
    assert len(counted) == 20
    equal(jaxvision.load_torchvision("resnet18", back, **NARROW)[1], variables)


def test_safetensors_holds_the_same(resnet18, tmp_path):
    path = write_safetensors(tmp_path / "mine.safetensors", resnet18)
    _, variables = jaxvision.load_torchvision("resnet18", path, **NARROW)
    equal(variables, jaxvision.load_torchvision("resnet18", resnet18, **NARROW)[1])


def test_pth_holds_the_same(resnet18, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({name: torch.from_numpy(value) for name, value in resnet18.items()}, tmp_path / "mine.pth")
    _, variables = jaxvision.load_torchvision("resnet18", str(tmp_path / "mine.pth"), **NARROW)
    equal(variables, jaxvision.load_torchvision("resnet18", resnet18, **NARROW)[1])


def test_names_of_old_files(maskrcnn):
    def old(name):
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        name = name.replace("_blocks.", "_blocks_").replace(".0.", ".", 1) if "_blocks." in name else name
        name = name.replace("_blocks_", "_blocks.")
        for i in range(4):
            name = name.replace(f"mask_head.{i}.0.", f"mask_head.mask_fcn{i + 1}.")
        return name

    legacy = {old(name): value for name, value in maskrcnn.items()}
    assert len(set(legacy) - set(maskrcnn)) == 2 + 16 + 8
    legacy["backbone.body.bn1.num_batches_tracked"] = np.array(3)  # published files have them or have them not
    architecture, variables = jaxvision.load_torchvision("maskrcnn_resnet50_fpn", legacy, **DETECTOR)
    equal(variables, jaxvision.load_torchvision("maskrcnn_resnet50_fpn", maskrcnn, **DETECTOR)[1])
    assert architecture.predictor["resize"] == {"min_size": 800, "max_size": 1333}


def test_everything_that_does_not_fit_is_in_one_error(resnet18):
    wrong = {**resnet18, "extra.weight": np.zeros(3), "conv1.weight": np.zeros((4, 3, 3, 3))}
    del wrong["layer2.0.bn1.bias"]
    with pytest.raises(StateDictError) as error:
        jaxvision.load_torchvision("resnet18", wrong, **NARROW)
    assert set(error.value.entries) == {
        "missing: layer2.0.bn1.bias",
        "unexpected: extra.weight",
        "shape of conv1.weight: (4, 3, 3, 3), not (4, 3, 7, 7)",
    }
    assert all(line in str(error.value) for line in error.value.entries)
    with pytest.raises(StateDictError, match=r"entries are wrong.\n  missing: layer1") as error:
        jaxvision.load_torchvision("resnet34", resnet18, **NARROW)
    assert any(line.startswith("missing: layer3.5") for line in error.value.entries)


def test_unknown_names(resnet18):
    for name, options, message in [
        ("maskrcnn_resnet50_fnp", {}, 'did you mean "maskrcnn_resnet50_fpn"'),
        ("resnet18", {"card": "IMAGENET_V1"}, 'did you mean "IMAGENET1K_V1"'),
        ("resnet18", {"stem_widht": 4}, 'did you mean "stem_width"'),
        ("resnet18", {"min_size": 4}, "has no option 'min_size'"),
        ("resnet18", {"preset": "modren"}, 'did you mean "modern"'),
        ("resnet18", {"num_classes": 0}, "num_classes must be a whole number from 1 on, got 0"),
        ("resnet18", {"num_classes": "two"}, "num_classes must be a whole number from 1 on, got 'two'"),
        ("maskrcnn_resnet50_fpn", {"num_classes": 1}, "a detector needs at least 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            jaxvision.load_torchvision(name, resnet18, **options)


# The head


def test_a_new_head_on_the_loaded_trunk(maskrcnn):
    name = "maskrcnn_resnet50_fpn"
    _, before = jaxvision.load_torchvision(name, maskrcnn, **DETECTOR)
    architecture, variables = jaxvision.load_torchvision(name, maskrcnn, num_classes=3, **DETECTOR)
    assert "class_names" not in architecture.predictor
    for part in ("trunk", "fpn", "rpn"):
        equal(variables["params"][part], before["params"][part])
    equal(variables["params"]["box_head"]["fc6"], before["params"]["box_head"]["fc6"])
    head = variables["params"]["box_head"]
    assert head["logits"]["kernel"].shape == (16, 3) and head["deltas"]["kernel"].shape == (16, 12)
    assert variables["params"]["mask_head"]["logits"]["kernel"].shape[-1] == 3
    blank = {"image": np.zeros((1, 64, 64, 3), np.float32), "image_size": np.array([[64, 64]], np.int32)}
    fresh = architecture.init(jax.random.key(0), blank)
    equal(head["logits"], fresh["params"]["box_head"]["logits"])
    equal(variables["params"]["mask_head"]["logits"], fresh["params"]["mask_head"]["logits"])


def test_a_head_of_ones_own_number(resnet18):
    own = {name: value[:5] if name.startswith("fc.") else value for name, value in resnet18.items()}
    with pytest.raises(StateDictError, match=r"tells 5 classes apart, not 1000. Pass num_classes=5 to load it"):
        jaxvision.load_torchvision("resnet18", own, **NARROW)
    _, variables = jaxvision.load_torchvision("resnet18", own, num_classes=5, **NARROW)
    np.testing.assert_array_equal(variables["params"]["head"]["bias"], own["fc.bias"])
    key = jax.random.key(7)
    _, drawn = jaxvision.load_torchvision("resnet18", own, num_classes=5, key=key, **NARROW)
    assert np.abs(drawn["params"]["head"]["kernel"] - variables["params"]["head"]["kernel"]).max() > 0
    _, again = jaxvision.load_torchvision("resnet18", own, num_classes=5, key=key, **NARROW)
    equal(drawn, again)


def test_a_googlenet_whose_auxiliary_classifiers_were_dropped():
    """As torchvision drops them of a pretrained network."""
    builder = builder_of("googlenet")
    whole = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), abstract(builder.create(width=0.1)))
    entries = {k: v for k, v in to_torch(builder, whole).items() if not k.startswith("aux")}
    architecture, variables = jaxvision.load_torchvision("googlenet", entries, width=0.1)
    assert variables["params"].keys() == {"trunk", "head"} and to_torch(builder, variables).keys() == entries.keys()
    batch = {**BLANK, "label": np.zeros(1, np.int32)}
    losses = jax.eval_shape(lambda v: architecture.losses(architecture.model.apply(v, batch), batch), variables)
    assert losses.keys() == {"class"}


# Cards


def test_a_card_says_what_the_file_does_not(maskrcnn):
    name = "maskrcnn_resnet50_fpn"
    plain, _ = jaxvision.load_torchvision(name, maskrcnn, **DETECTOR)
    carded, variables = jaxvision.load_torchvision(name, maskrcnn, "COCO_V1", min_size=96, max_size=128, **DETECTOR)
    assert plain.model.trunk.norm == "frozen" and carded.model.trunk.norm == "frozen:0"
    assert carded.predictor["class_names"][1] == "person" and "class_names" not in plain.predictor
    assert carded.predictor["resize"] == {"min_size": 96, "max_size": 128}
    image = {"image": FORMULA["image"]("x", 64, 64)[None], "image_size": np.array([[64, 64]], np.int32)}
    tiny = jax.tree.map(lambda leaf: leaf * np.float32(1e-6), variables["batch_stats"])
    stem = [
        jax.jit(lambda variables, a=a: a.model.apply(variables, image)["c1"])({**variables, "batch_stats": tiny})
        for a in (plain, carded)
    ]
    assert np.abs(stem[1]).max() > 2 * np.abs(stem[0]).max()  # eps 1e-5 beside variances of 1e-6


def test_a_published_name_implies_its_card(resnet18, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    torch.save({name: torch.from_numpy(value) for name, value in resnet18.items()}, tmp_path / "a.pth")
    path = card_for(monkeypatch, "resnet18", "TEST_V1", tmp_path / "a.pth", resize={"resize": 232, "crop": 224})
    architecture, _ = jaxvision.load_torchvision("resnet18", path, **NARROW)
    assert architecture.predictor["resize"] == {"resize": 232, "crop": 224}
    assert architecture.predictor["class_names"][0] == "tench"
    jaxvision.load_torchvision("resnet18", path, "TEST_V1", **NARROW)
    with pytest.raises(WeightsError, match="this is the file of card TEST_V1, not IMAGENET1K_V1; leave the card out"):
        jaxvision.load_torchvision("resnet18", path, "IMAGENET1K_V1", **NARROW)
    with pytest.raises(WeightsError, match=r"weights of resnet18 \(TEST_V1\), not of resnet34"):
        jaxvision.load_torchvision("resnet34", path, **NARROW)
    with path.open("ab") as file:
        file.write(b"!")
    with pytest.raises(WeightsError, match="its name promises a sha256"):
        jaxvision.load_torchvision("resnet18", path, **NARROW)


def test_presets(maskrcnn):
    name = "maskrcnn_resnet50_fpn"
    numbers, _ = jaxvision.load_torchvision(name, maskrcnn, **DETECTOR)
    modern, _ = jaxvision.load_torchvision(name, maskrcnn, preset="modern", mask_paste="torchvision", **DETECTOR)
    assert not numbers.options["aligned"] and modern.options["aligned"]
    assert (numbers.predictor["precision"], modern.predictor["precision"]) == ("highest", None)
    assert numbers.predictor["mask_paste"] == modern.predictor["mask_paste"] == "torchvision"


# A trunk for another architecture


def test_config_init_takes_a_classifier_for_a_trunk(resnet18, tmp_path):
    own = {name: value[:5] if name.startswith("fc.") else value for name, value in resnet18.items()}
    narrow = {name: value.shape for name, value in own.items()}
    full = FORMULA["state_dict"](json.loads((GOLDEN / "resnet18.shapes.json").read_text()))
    path = write_safetensors(tmp_path / "classifier.safetensors", full)
    assert len(narrow) < len(full)
    trunk = load_trunk("resnet18", path)
    assert not any("head" in name for name in trunk) and len(trunk) == 100
    architecture = jaxvision.create("mask_rcnn", num_classes=4, backbone="resnet18_fpn", box_features=16)
    blank = {"image": np.zeros((1, 64, 64, 3), np.float32), "image_size": np.array([[64, 64]], np.int32)}
    shapes = jax.eval_shape(architecture.init, jax.random.key(0), blank)
    variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    loaded, report = initialize(variables, (("^trunk/", f"resnet18:{path}"),))
    assert len(report["loaded"]) == 100 and not report["unused"] and len(report["fresh"]) > 10
    np.testing.assert_array_equal(
        loaded["params"]["trunk"]["stem"]["kernel"], full["conv1.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(loaded["batch_stats"]["trunk"]["stem_norm"]["norm"]["var"], full["bn1.running_var"])
    with pytest.raises(ValueError, match='did you mean "resnet18"'):
        initialize(variables, (("^trunk/", f"resnet81:{path}"),))


@pytest.mark.parity
@pytest.mark.parametrize("name", sorted(MODULES))
def test_there_and_back_at_full_size(name):
    """Every entry has a place of its own, and its layout is undone exactly."""
    rng = np.random.default_rng(0)
    entries = {entry: rng.random(shape, np.float32) for entry, shape in shapes_of(name).items()}
    _, variables = jaxvision.load_torchvision(name, entries)
    back = jaxvision.to_torchvision(name, variables)
    equal({entry: back[entry] for entry in entries}, entries)
