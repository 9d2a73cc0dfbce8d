"""State dicts from files and mappings: names to numpy arrays, and nothing is ever executed."""

import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping

import ml_dtypes
import numpy as np

_PUBLISHED = re.compile(r"-([0-9a-f]{8})\.(?:pth|pt)$")
_SAFE = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64, "BOOL": np.bool_}
_SAFE |= {f"{letter}{8 * size}": np.dtype(f"{kind}{size}") for letter, kind in ("Ii", "Uu") for size in (1, 2, 4, 8)}


class WeightsError(ValueError):
    """Weights that cannot be read; the message names the file and what to do."""


def read_state_dict(weights: Mapping | str | os.PathLike) -> dict[str, np.ndarray]:
    """{name: array} of a mapping of arrays, a `.safetensors` file, or a `.pth` or `.pt` file.

    A mapping or file that holds the state dict under "model" or "state_dict", as checkpoints do, is looked into. A `.pth`
    is read by torch's weights-only loader (`pip install "jaxvision[torch]"`), which executes nothing.

    Raises WeightsError for a file that is missing, cut off, or holds anything but numbers.
    """
    if isinstance(weights, Mapping):
        return _arrays(weights, "The mapping")
    if not isinstance(weights, str | os.PathLike):
        raise WeightsError(f"weights must be a mapping of names to arrays or a path, got a {type(weights).__name__}.")
    path = os.fspath(weights)
    suffix = os.path.splitext(path)[1]
    readers = {".safetensors": _safetensors, ".pth": _pth, ".pt": _pth}
    if suffix not in readers:
        raise WeightsError(f"{path}: give a .safetensors, .pth or .pt file, or a mapping of names to arrays.")
    try:
        return _arrays(readers[suffix](path), path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error


def published_digits(weights) -> str | None:
    """The eight digits of a `.pth` file's published name, once its sha256 is seen to begin with them; or None.

    Raises WeightsError where it does not: the download is damaged, or another file has that name.
    """
    found = _PUBLISHED.search(os.fspath(weights)) if isinstance(weights, str | os.PathLike) else None
    if not found:
        return None
    try:
        with open(weights, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{weights}: cannot be read ({error.strerror})") from error
    if not digest.startswith(found[1]):
        raise WeightsError(
            f"{weights}: its name promises a sha256 that begins with {found[1]}, but it begins with {digest[:8]}. "
            "Fetch it again; if the file is your own, give it another name."
        )
    return found[1]


def _arrays(entries: Mapping, where: str) -> dict[str, np.ndarray]:
    for key in ("model", "state_dict"):
        if isinstance(entries.get(key), Mapping):
            entries = entries[key]
    arrays = {}
    for name, value in entries.items():
        array = value if isinstance(value, np.ndarray) else _array(value)
        if not isinstance(name, str) or array is None or array.dtype.kind not in "biufV":
            raise WeightsError(
                f"{where}: entry {name!r} is a {type(value).__name__}, not an array of numbers. "
                "Give the state dict, as torch.save(model.state_dict(), PATH) writes it."
            )
        arrays[name] = array
    if not arrays:
        raise WeightsError(f"{where} holds no entries.")
    return arrays


def _array(value) -> np.ndarray | None:
    """An array or tensor as numpy's; None for what is neither."""
    if not hasattr(value, "shape"):
        return None
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # numpy has no bfloat16
    return np.asarray(value)


def _pth(path: str) -> Mapping:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise WeightsError(
            f'{path}: reading it needs torch: pip install "jaxvision[torch]". Or convert it to .safetensors.'
        ) from error
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\3\4"
    if zipped and not zipfile.is_zipfile(path):
        raise WeightsError(f"{path}: the file is cut off ({os.path.getsize(path)} bytes); fetch it again.")
    try:
        entries = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: it is damaged, or holds objects other than tensors, which can run code and are not loaded. "
            f"Save the model's state_dict() alone. ({str(error).splitlines()[0]})"
        ) from error
    except OSError:
        raise
    except Exception as error:  # what torch raises of a damaged file is anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path}: it is cut off or no torch file; fetch it again. ({reason})") from error
    if not isinstance(entries, Mapping):
        raise WeightsError(f"{path}: it holds a {type(entries).__name__}, not a state dict.")
    return entries


def _safetensors(path: str) -> dict[str, np.ndarray]:
    """By the format's description: eight bytes of length, a header of JSON, and the arrays one after the other."""
    with open(path, "rb") as file:
        data = file.read()
    length = int.from_bytes(data[:8], "little")
    try:
        if len(data) < 8 + length:
            raise ValueError("the header is cut off")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        arrays = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            if 8 + length + last > len(data):
                raise ValueError(f"entry {name!r} is cut off")
            values = np.frombuffer(data[8 + length + first : 8 + length + last], _SAFE[entry["dtype"]])
            arrays[name] = values.reshape(entry["shape"])
        return arrays
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: cut off or not a .safetensors file ({len(data)} bytes); fetch it again. ({error})"
        ) from error
