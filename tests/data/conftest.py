"""Scenes that several files look at, drawn once."""

import pytest
from drawn import draw_many


@pytest.fixture(scope="session")
def shapes():
    return draw_many("shapes", "train", 300)


@pytest.fixture(scope="session")
def held_out():
    return draw_many("shapes", "validation", 100)


@pytest.fixture(scope="session")
def people():
    return draw_many("people", "train", 60)
