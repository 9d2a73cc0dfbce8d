"""Cards: every model has one, and what they say fits the models."""

import re

import numpy as np
import pytest

from jaxvision import preprocess
from jaxvision.interop import categories
from jaxvision.interop.cards import CARDS, published
from jaxvision.interop.convert import abstract, places
from jaxvision.interop.torchvision import MODULES, builder_of

EVERY = [(name, card) for name, cards in CARDS.items() for card in cards]


def test_every_model_has_cards():
    assert set(CARDS) == set(MODULES)


def test_categories():
    assert len(categories.IMAGENET) == 1000 and categories.IMAGENET[0] == "tench"
    assert len(categories.COCO) == 91 and categories.COCO[1] == "person" and categories.COCO[90] == "toothbrush"
    assert sum(name == "N/A" for name in categories.COCO) == 10
    assert len(categories.VOC) == 21 and categories.VOC[20] == "tvmonitor"
    assert len(categories.COCO_KEYPOINTS) == 17


@pytest.mark.parametrize(("name", "card"), EVERY)
def test_a_card_is_complete(name, card):
    facts = CARDS[name][card]
    assert re.fullmatch(r"\w+(-\w+)*-[0-9a-f]{8}", facts.file)
    assert published(facts.digits) == (name, card)
    assert facts.source.startswith("https://")
    assert preprocess.check(facts.resize)
    assert card == "IMAGENET1K_FEATURES" or (facts.categories and all(0 < v < 100 for v in facts.metrics.values()))


def test_no_two_files_have_the_same_digits():
    digits = [CARDS[name][card].digits for name, card in EVERY]
    assert len(set(digits)) == len(digits)


@pytest.mark.parity
@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_model_has_as_many_parameters_as_its_cards_say(name):
    builder = builder_of(name)
    for facts in CARDS[name].values():
        architecture = builder.create(**facts.options, **dict.fromkeys(builder.optional, True))
        found = {place: leaf for place, (_, leaf) in places(abstract(architecture)).items()}
        assert len({builder.name(place) for place in found}) == len(found)
        left_out = "running_(mean|var)$"
        if "'frozen" in repr(architecture.model):
            left_out += "|^trunk/.*norm"
        if name == "googlenet":  # published without its auxiliary heads
            left_out += "|^aux"
        count = sum(int(np.prod(leaf.shape)) for place, leaf in found.items() if not re.search(left_out, place))
        assert count == facts.parameters
        assert not facts.categories or len(facts.categories) == architecture.options["num_classes"]
