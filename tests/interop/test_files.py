"""State dicts from mappings and files, and what no file may do."""

import hashlib
import json
import os
import pickle
import sys

import ml_dtypes
import numpy as np
import pytest

from jaxvision.interop.files import WeightsError, published_digits, read_state_dict

ENTRIES = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv.bias": np.array([0.5, -0.5], np.float32),
    "bn.num_batches_tracked": np.array(7, np.int64),
}


def write_safetensors(path, entries, metadata=None):
    """A file by the format's description."""
    kinds = {"float32": "F32", "int64": "I64", "float16": "F16", "bfloat16": "BF16"}
    header, data = {"__metadata__": metadata or {"format": "pt"}}, b""
    for name, value in entries.items():
        offsets = [len(data), len(data) + value.nbytes]
        header[name] = {"dtype": kinds[value.dtype.name], "shape": list(value.shape), "data_offsets": offsets}
        data += value.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def assert_same(entries, expected=ENTRIES):
    assert entries.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(entries[name], value)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_a_mapping_of_arrays():
    assert_same(read_state_dict(ENTRIES))
    assert_same(read_state_dict({"model": ENTRIES, "epoch": 3}))
    with pytest.raises(WeightsError, match="entry 'epoch' is a int, not an array of numbers"):
        read_state_dict({**ENTRIES, "epoch": 3})
    with pytest.raises(WeightsError, match="entry 'names' is a ndarray"):
        read_state_dict({"names": np.array(["a"])})
    with pytest.raises(WeightsError, match="holds no entries"):
        read_state_dict({})
    with pytest.raises(WeightsError, match="must be a mapping of names to arrays or a path, got a list"):
        read_state_dict([1, 2])


def test_safetensors(tmp_path):
    path = write_safetensors(tmp_path / "a.safetensors", ENTRIES)
    assert_same(read_state_dict(path))
    halves = {"a": np.array([1.5, -2], ml_dtypes.bfloat16), "b": np.array([0.25], np.float16)}
    assert_same(read_state_dict(str(write_safetensors(tmp_path / "b.safetensors", halves))), halves)


@pytest.mark.parametrize("kept", [0, 4, 30, -1])
def test_safetensors_cut_off(tmp_path, kept):
    path = write_safetensors(tmp_path / "a.safetensors", ENTRIES)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"a\.safetensors: cut off or not a \.safetensors file"):
        read_state_dict(path)


def test_paths_that_hold_no_weights(tmp_path):
    for suffix in ("safetensors", "pth"):
        with pytest.raises(WeightsError, match=rf"none\.{suffix}: (cannot be read|reading it needs torch)"):
            read_state_dict(tmp_path / f"none.{suffix}")
    with pytest.raises(WeightsError, match=r"give a \.safetensors, \.pth or \.pt file"):
        read_state_dict("weights.onnx")


def test_without_torch_a_pth_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"PK\3\4")
    with pytest.raises(WeightsError, match=r'needs torch: pip install "jaxvision\[torch\]"'):
        read_state_dict(tmp_path / "a.pth")


def test_pth(tmp_path, torch):
    tensors = {name: torch.from_numpy(value) for name, value in ENTRIES.items()}
    for zipped in (True, False):
        torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        assert_same(read_state_dict(tmp_path / "a.pth"))
    torch.save({"model": tensors, "epoch": 3}, tmp_path / "checkpoint.pth")
    assert_same(read_state_dict(tmp_path / "checkpoint.pth"))
    torch.save({"a": torch.tensor([1.5]).bfloat16()}, tmp_path / "half.pth")
    assert_same(read_state_dict(tmp_path / "half.pth"), {"a": np.float32([1.5])})
    assert_same(
        read_state_dict({name: torch.nn.Parameter(t) if t.is_floating_point() else t for name, t in tensors.items()})
    )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, -20])
def test_pth_cut_off(tmp_path, torch, zipped, kept):
    tensors = {name: torch.from_numpy(value) for name, value in ENTRIES.items()}
    torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    data = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(WeightsError, match=r"a\.pth: (the file|it) is (cut off|damaged)"):
        read_state_dict(tmp_path / "a.pth")


class Code:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_pickle_is_never_run(tmp_path, torch):
    proof = tmp_path / "ran"
    torch.save({**{name: torch.from_numpy(v) for name, v in ENTRIES.items()}, "x": Code(proof)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"x": Code(proof)}))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(WeightsError, match="objects other than tensors, which can run code and are not loaded"):
            read_state_dict(tmp_path / name)
    assert not proof.exists()


def test_a_whole_model_is_not_a_state_dict(tmp_path, torch):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"Save the model's state_dict\(\) alone"):
        read_state_dict(tmp_path / "a.pth")
    torch.save([torch.ones(2)], tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="it holds a list, not a state dict"):
        read_state_dict(tmp_path / "b.pth")


def test_a_published_name_promises_a_digest(tmp_path):
    data = b"weights"
    digits = hashlib.sha256(data).hexdigest()[:8]
    good, bad, own = (tmp_path / name for name in (f"model-{digits}.pth", "model-01234567.pth", "model-final.pth"))
    for path in (good, bad, own):
        path.write_bytes(data)
    assert published_digits(good) == digits and published_digits(str(good)) == digits
    assert published_digits(own) is None and published_digits(ENTRIES) is None
    with pytest.raises(WeightsError, match=f"promises a sha256 that begins with 01234567, but it begins with {digits}"):
        published_digits(bad)
