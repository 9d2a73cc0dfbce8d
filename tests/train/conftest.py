import pytest

from jaxvision import architecture as architectures


@pytest.fixture(scope="module", autouse=True)
def segmenter():
    """The test's own architecture has a name like any other, while tests of this folder run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.REGISTRY, "segmenter", "segmenter:segmenter")
        yield
