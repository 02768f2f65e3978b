"""The run that is prepared for a GPU, tried on the CPU: all its parts, resumed, and packed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_mnist
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch import nn

from experiments import colab, gpu, gpu_pack, gpu_parts, zoo
from gentext import checkpoint, recipes

THERE = ("torch", "accelerate", "safetensors", "jaxtyping", "matplotlib", "numpy")


@pytest.fixture(scope="module")
def done(root_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a tiny run of everything."""
    folder = tmp_path_factory.mktemp("gpu")
    command = ["bash", str(root_folder / "experiments" / "gpu.sh"), str(folder), "--tiny"]
    variables = {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, "--collect", str(folder / "collected")],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def root_folder() -> Path:
    return gpu.ROOT


def rows(folder: Path) -> dict[str, dict[str, dict]]:
    return json.loads((folder / "results.json").read_text("utf-8"))["rows"]


def test_each_part_has_its_rows(done: Path) -> None:
    found = rows(done)
    assert list(found) == ["speed", "tests", "weights", "notebooks"]
    assert {row["ended"] for part in found.values() for row in part.values()} == {"ok"}
    assert list(found["speed"]) == ["GPT", "plain GPT", "U-Net", "plain U-Net"]
    assert all(row["float32 share"] > 0 for row in found["speed"].values())
    assert found["tests"]["GPU"]["passed"] == 2
    assert found["notebooks"]["score"]["cells"] == 2
    assert found["notebooks"]["score"]["failed cells"] == []
    table = (done / "report.md").read_text("utf-8")
    assert table.count("\n| ") == 1 + 1 + sum(map(len, found.values()))
    assert (done / "collected" / "report.md").read_text("utf-8") == table


def test_the_weights_are_what_the_card_says(done: Path, tmp_path: Path) -> None:
    card = json.loads((done / "weights" / "gpt_shakespeare.json").read_text("utf-8"))
    assert card["changed"] == {"model": {"dropout": 0.2}, "config": {"steps": 12, "batch_size": 2}}
    assert card["machine"].endswith("no GPU")
    assert card["data"]["source"] == "the bundled excerpt"
    subprocess.run(["tar", "xf", str(done / "weights-1.tar"), "-C", str(tmp_path)], check=True)
    file = tmp_path / "gpt_shakespeare.safetensors"
    assert file.stat().st_size <= 4 * 2**20
    model = checkpoint.load(file)
    assert model.arguments["dropout"] == 0.2
    assert sum(p.numel() for p in model.parameters()) == card["parameters"]


def test_what_is_done_is_not_done_again_and_what_was_killed_is(done: Path) -> None:
    before = rows(done)
    gpu.main([str(done), "--tiny"])
    assert rows(done) == before
    killed = json.loads((done / "results.json").read_text("utf-8"))
    killed["rows"]["speed"]["U-Net"] = {"ended": "running"}
    del killed["rows"]["speed"]["GPT"]
    (done / "results.json").write_text(json.dumps(killed), "utf-8")
    gpu.main([str(done), "--tiny", "--minutes", "0"])
    assert rows(done)["speed"]["U-Net"] == {"ended": "no time left"}
    gpu.main([str(done), "--tiny"])
    after = rows(done)
    for name in ("GPT", "U-Net"):
        assert after["speed"][name]["ended"] == "ok"
        assert after["speed"][name] != before["speed"][name]  # other times
    assert {k: v for k, v in after.items() if k != "speed"} == {
        k: v for k, v in before.items() if k != "speed"
    }


def test_a_row_that_fails_is_told_and_ends_no_other(tmp_path: Path) -> None:
    def fails(place: gpu_parts.Place) -> dict:
        raise RuntimeError("out of memory")

    place = gpu_parts.Place(tmp_path, True, time.monotonic() + 60)
    results = gpu.Results(tmp_path)
    job = gpu_parts.Job("speed", "bad", fails)
    gpu.do(job, place, results)
    assert rows(tmp_path)["speed"]["bad"]["ended"] == "failed: RuntimeError: out of memory"
    assert "out of memory" in (tmp_path / "report.md").read_text("utf-8")
    assert results.final(job)


def test_a_program_that_takes_too_long_ends_with_all_it_started(tmp_path: Path) -> None:
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    begun = time.monotonic()
    ended = gpu_parts.run([sys.executable, "-c", code], tmp_path / "log", 1.0)
    assert time.monotonic() - begun < 20
    assert ended == "stopped after 1 s"
    assert gpu_parts.run([sys.executable, "-c", "1/0"], tmp_path / "log", 60).startswith(
        "failed with 1: ZeroDivisionError"
    )


def test_weights_get_as_many_steps_as_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a step takes half a second and all else nothing."""
    model, data, config = recipes.vae_digits("full")
    now = [0.0]
    monkeypatch.setattr(zoo.time, "perf_counter", lambda: now[0])

    def fit(model, data, config, *, observers, progress):
        for step in range(1, config.steps + 1):
            now[0] += 0.5
            observers[0](step, model)

    monkeypatch.setattr(zoo.gt, "fit", fit, raising=False)
    assert zoo.affordable(model, data, config, 615.0) == 2 * 600
    assert zoo.affordable(model, data, config, 1.0) == zoo.TRIAL


def test_weights_too_large_to_be_carried_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data, _ = recipes.vae_digits("quick")
    monkeypatch.setattr(zoo, "MOST", 1000)
    with pytest.raises(ValueError, match="half=True"):
        zoo.store(tmp_path / "large.safetensors", model, "vae_digits", data, half=False)
    assert list(tmp_path.iterdir()) == []


# --- what travels --------------------------------------------------------------------------------


def installed_there() -> set[str]:
    """The modules that come with the packages that every such machine has."""
    modules = importlib.metadata.packages_distributions()
    names, more = set(), list(THERE)
    while more:
        name = canonicalize_name(more.pop())
        if name in names:
            continue
        names.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted = map(Requirement, needs)
        more += [r.name for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})]
    return {m for m, owners in modules.items() if names & set(map(canonicalize_name, owners))}


FOREIGN = """
import importlib.machinery, importlib.util, json, sys
there, sites = set(json.loads(sys.argv[1])), json.loads(sys.argv[2])
own = {"gentext", "benchmarks", "experiments"}

class Only(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        free = path is not None or top in there | own | sys.stdlib_module_names or top[0] == "_"
        return importlib.machinery.PathFinder.find_spec(name, path if free else sites, target)

sys.meta_path[:] = [Only if f is importlib.machinery.PathFinder else f for f in sys.meta_path]
assert importlib.util.find_spec("pytest") is None and importlib.util.find_spec("typer") is None
import dataclasses, gentext as gt
print(gt.__file__)
from experiments import gpu
for name in ("gpt_poems", "latent_diffusion_emoji"):
    model, data, config = gt.recipes.build(name, "quick")
model, data, config = gt.recipes.vae_digits("quick")
gt.fit(model, data, dataclasses.replace(config, steps=2), progress=False)
gt.zoo.load("image_vae_fashion"), gt.metrics.evaluate(model, data, k=0, limit=4)
gt.plot.image_grid(model.sample(2))
print(sorted(m for m in sys.modules if m in ("typer", "tokenizers", "sacrebleu", "pytest")))
"""


def test_the_small_copy_needs_only_what_is_there_and_what_it_carries(tmp_path: Path) -> None:
    size = gpu_pack.pack(tmp_path / "copy", ["speed"])
    assert size < gpu_pack.LIMIT
    folder = tmp_path / "copy"
    gpu_pack.copy_weights(folder, gpu_pack.FOR_RECIPES)
    sites = [str(path) for path in sorted((folder / "gpu-site").iterdir())]
    assert gpu_pack.lacking(folder) == []  # here, where all is installed
    command = [sys.executable, "-c", FOREIGN, json.dumps(sorted(installed_there()))]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ended = subprocess.run(
        [*command, json.dumps(sites)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    where, lazily = ended.stdout.strip().splitlines()
    assert where == str(folder / "gentext" / "__init__.py")
    assert lazily == "[]"
    with pytest.raises(ValueError, match="there already"):
        gpu_pack.pack(folder)


def test_a_package_that_the_machine_lacks_is_named(tmp_path: Path) -> None:
    for name in ("json", "no_such_module_here"):
        (tmp_path / "gpu-site" / name).mkdir(parents=True)
    assert gpu_pack.lacking(tmp_path) == [tmp_path / "gpu-site" / "no_such_module_here"]


def test_the_whole_data_travel_for_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tiny_mnist.contents()
    tiny_mnist.write(tmp_path / "data" / "fashion-mnist", content)
    from gentext.data import files

    monkeypatch.setattr(files, "is_whole", lambda path, file: path.is_file())
    gpu_pack.copy_data(tmp_path / "copy", tmp_path / "data")
    copied = sorted(p.name for p in (tmp_path / "copy" / "gpu-data" / "fashion-mnist").iterdir())
    assert copied == sorted(content)
    with pytest.raises(FileNotFoundError, match="fashion-mnist"):
        gpu_pack.copy_data(tmp_path / "other", tmp_path)


# --- estimates -----------------------------------------------------------------------------------


class Line(nn.Linear):
    """A linear map whose loss is the sum of what it gives."""

    def turns(self) -> dict[str, object]:
        return {"loss": self.parameters()}

    def forward(self, x: torch.Tensor, turn: str = "loss") -> torch.Tensor:
        return super().forward(x).square().sum()


def test_operations_and_bytes_of_a_linear_map_are_counted() -> None:
    """2 n i o forward, as many for the weights; the input needs no gradient."""
    n, i, o = 8, 16, 4
    counted, kept = colab.step(Line(i, o), (torch.randn(n, i),))
    assert counted.operations == 2 * (2 * n * i * o)
    assert kept == 4 * (n * i + n * o)  # the input, and the output for its square
    assert counted.seconds == pytest.approx(counted.starts * colab.HOST)


def test_every_chapter_has_an_estimate_and_each_training_is_one_of_it() -> None:
    made = json.loads((gpu.ROOT / "experiments" / "colab.json").read_text("utf-8"))
    assert "estimate" in made["assumed"]["what"]
    paths = sorted((gpu.ROOT / "notebooks" / "en").glob("*.ipynb"))
    assert [path.stem for path in paths] == list(made["chapters"])
    for path in paths:
        found = []
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            code = "".join(cell["source"])
            if cell["cell_type"] == "code" and "gt.fit(" in code:
                found += re.findall(r"gt\.recipes\.(\w+)\(\)", code)
        named = [name for name in dict.fromkeys(found) if name != "budget"]
        assert named == list(dict.fromkeys(colab.TRAININGS.get(path.stem, ()))), path.stem
        assert named == list(made["chapters"][path.stem]["trainings"]), path.stem


def test_the_mode_that_counts_leaves_free_what_only_looks() -> None:
    with colab.Counted() as counted:
        x = torch.ones(4, 6)
        x.view(6, 4).t()[1:]
    assert counted.starts == 1
    assert counted.bytes == 4 * 24
