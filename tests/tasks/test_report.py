import numpy as np
import pytest

from jaxvision.tasks.report import lines


def test_columns_are_as_wide_as_what_is_in_them():
    columns = {"images": np.array([12345, 7]), "a share": [0.25, np.nan]}
    assert lines("class", ("cat", "traffic light"), columns) == [
        "class           images   a share",
        "cat             12,345    0.2500",
        "traffic light        7       nan",
    ]
    with pytest.raises(ValueError, match="shorter"):
        lines("class", ("cat", "dog"), {"images": [1]})
