"""Files of weights: what is read, and what is refused and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gentext.sequences.foreign_weights import count_layers, load_weights, read_tensors


def folder(path: Path, **files: object) -> Path:
    """A folder of files in JSON; "__" stands for a full stop in their names."""
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(json.dumps(content), "utf-8")
    return path


def test_parts_are_put_together_as_the_index_says(tmp_path: Path) -> None:
    tensors = {name: torch.randn(2, 3) for name in "abc"}
    save_file({name: tensors[name] for name in "ab"}, tmp_path / "one.safetensors")
    save_file({"c": tensors["c"]}, tmp_path / "two.safetensors")
    files = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    index = {"metadata": {}, "weight_map": files}
    folder(tmp_path, config__json={"n": 1}, model__safetensors__index__json=index)
    found, config = read_tensors(tmp_path)
    assert config == {"n": 1}
    assert found.keys() == tensors.keys()
    assert all(found[name].equal(tensors[name]) for name in tensors)


# By the protocol it calls exec, so whoever opens it hears of it.
OPENED = b"cbuiltins\nexec\n(Vraise AssertionError('opened')\ntR."


@pytest.mark.parametrize("given", ["folder", "file"])
def test_a_pickle_is_never_opened(tmp_path: Path, given: str) -> None:
    folder(tmp_path, config__json={})
    (tmp_path / "pytorch_model.bin").write_bytes(OPENED)
    source = tmp_path if given == "folder" else tmp_path / "pytorch_model.bin"
    message = r"pytorch_model\.bin is a pickle.*model\.safetensors.*save_pretrained"
    with pytest.raises(ValueError, match=message):
        read_tensors(source)


def test_beside_safetensors_a_pickle_does_no_harm(tmp_path: Path) -> None:
    folder(tmp_path, config__json={})
    (tmp_path / "pytorch_model.bin").write_bytes(OPENED)
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert read_tensors(str(tmp_path))[0]["a"].item() == 1


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the checks of types, as users have it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_a_mapping_of_other_things_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got weights as list; give a tensor"):
        read_tensors({"a": [1.0]})


INDEX = {"weight_map": {"a": "model-1.safetensors"}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"config\.json cannot be opened \(No such file"),
        ({"config__json": {}}, r"neither model\.safetensors nor model\.safetensors\.index\.json"),
        ({"config__json": [1]}, "holds no object, but a list"),
        ({"model__safetensors__index__json": INDEX}, r"model-1\.safetensors cannot be read"),
        ({"model__safetensors__index__json": {}}, "does not say in which files"),
        (
            {"model__safetensors__index__json": {"weight_map": {"a": "../a.safetensors"}}},
            "does not say in which files of its folder",
        ),
    ],
)
def test_a_folder_that_is_none_is_refused(tmp_path: Path, files: dict, message: str) -> None:
    more = {"config__json": {}} if "model__safetensors__index__json" in files else {}
    with pytest.raises(ValueError, match=message):
        read_tensors(folder(tmp_path, **more, **files))


def test_a_configuration_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes('{"author": "é"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json is not UTF-8 \(byte 0xe9 at place 12\)"):
        read_tensors(tmp_path)


def test_layers_are_counted_to_the_last_also_over_a_gap() -> None:
    names = dict.fromkeys(("h.0.w", "h.2.w", "h.11.w", "x.40.w", "h.last.w"), torch.zeros(1))
    assert count_layers(names, "h.") == 12
    assert count_layers(names, "y.") == 1


def test_weights_are_joined_and_turned_and_all_or_none_are_loaded() -> None:
    model = nn.Linear(3, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parts = {"weight": ["a", "b"], "bias": ["c", "d"]}
    tensors = {"a": torch.randn(3, 2), "b": torch.randn(3, 2), "c": torch.ones(2)}
    with pytest.raises(ValueError, match="this is no thing: it has no tensor 'd' among its 3"):
        load_weights(model, tensors, parts.__getitem__, "thing", transposed=["weight"])
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())
    tensors["d"] = torch.zeros(2)
    load_weights(model, tensors, parts.__getitem__, "thing", transposed=["weight"])
    x = torch.randn(5, 3)
    expected = torch.cat([x @ tensors["a"] + 1, x @ tensors["b"]], 1)
    torch.testing.assert_close(model(x), expected)
