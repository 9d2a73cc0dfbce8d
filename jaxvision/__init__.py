"""jaxvision: where things are in pictures, in JAX.

The names below are the public face; each is imported when it is first used, so `import jaxvision` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxvision.architecture import Architecture as Architecture
    from jaxvision.architecture import create as create
    from jaxvision.explain.features import features as features
    from jaxvision.interop.torchvision import load_torchvision as load_torchvision
    from jaxvision.interop.torchvision import to_torchvision as to_torchvision
    from jaxvision.predictor import Predictor as Predictor
    from jaxvision.runs import load_run as load_run
    from jaxvision.tiles import Tiles as Tiles
    from jaxvision.tta import TTA as TTA

__version__ = "0.1.0"

_FACE = {
    "Architecture": "jaxvision.architecture",
    "create": "jaxvision.architecture",
    "features": "jaxvision.explain.features",
    "load_run": "jaxvision.runs",
    "load_torchvision": "jaxvision.interop.torchvision",
    "Predictor": "jaxvision.predictor",
    "Tiles": "jaxvision.tiles",
    "to_torchvision": "jaxvision.interop.torchvision",
    "TTA": "jaxvision.tta",
}
__all__ = sorted(_FACE)


def __getattr__(name: str):
    if name in _FACE:
        return getattr(importlib.import_module(_FACE[name]), name)
    try:
        return importlib.import_module(f"jaxvision.{name}")  # jaxvision.ops and the other rooms
    except ModuleNotFoundError as error:
        if error.name != f"jaxvision.{name}":
            raise
        raise AttributeError(f"module 'jaxvision' has no attribute {name!r}") from None


def __dir__():
    return sorted([*globals(), *__all__])
