"""A copy of the repository small enough to travel to a machine with a GPU: see ``gpu.sh``.

    experiments/gpu.sh pack FOLDER [PART ...] [--data FOLDER]

The copy holds what the parts need: code, tests, chapters without their outputs, the weights that
are read there, small packages in ``gpu-site/`` (a folder for each, copied from this environment,
read only where the machine lacks it), and for ``weights`` the whole Fashion-MNIST in ``gpu-data/``,
from ``--data``, ``$GENTEXT_DATA``, a finished download or a system package.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("speed", "tests", "weights", "notebooks")
LIMIT = 64  # MiB
# What gentext and its tests import besides torch, accelerate, jaxtyping, safetensors, matplotlib
# and what these ask for: the packages by the module that shows whether they are there.
SMALL = {
    "platformdirs": "platformdirs",
    "lazy_loader": "lazy-loader",
    "filelock": "filelock",
    "packaging": "packaging",
    "tqdm": "tqdm",
    "pytest": "pytest",
    "pluggy": "pluggy",
    "iniconfig": "iniconfig",
    "pygments": "pygments",
    "xdist": "pytest-xdist",
    "execnet": "execnet",
}
CODE = ("gentext", "benchmarks", "experiments", "tests")
# recipes make their data by them, or begin from them
FOR_RECIPES = ("image_vae_fashion", "image_vae_emoji", "vqvae_mnist", "bert_poems")
CLASSIFIERS = ("classifier_digits", "classifier_fashion", "classifier_mnist")  # of the chapters


def lacking(root: Path = ROOT) -> list[Path]:
    """The folders of gpu-site whose package this interpreter does not have."""
    folders = sorted(path for path in (root / "gpu-site").glob("*") if path.is_dir())
    return [path for path in folders if importlib.util.find_spec(path.name) is None]


def copy_packages(folder: Path, wanted: Iterable[str]) -> None:
    """Put small packages of this environment, and what tells their versions, into ``folder``."""
    for module in wanted:
        files = importlib.metadata.files(SMALL[module])
        if files is None:
            raise ValueError(f"{SMALL[module]} was not installed by pip: install it so, and pack")
        for file in files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = folder / module / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)


def copy_code(folder: Path) -> None:
    """The code, its bundled data and fonts, without weights and what was compiled."""
    skip = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.pyc", ".*")
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("pyproject.toml", "conftest.py", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / name)


def copy_notebooks(folder: Path) -> list[str]:
    """The English chapters without outputs; returns the words in quotes that stand in them."""
    words: list[str] = []
    for path in sorted((ROOT / "notebooks" / "en").glob("*.ipynb")):
        content = json.loads(path.read_text("utf-8"))
        for cell in content["cells"]:
            words += re.findall(r"[\"'](\w+)[\"']", "".join(cell["source"]))
            if cell["cell_type"] == "code":
                cell["outputs"] = []
        target = folder / "notebooks" / "en" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return words


def copy_weights(folder: Path, names: Iterable[str]) -> None:
    """Those weights of the zoo that are in ``names``."""
    for path in sorted((ROOT / "gentext" / "zoo").glob("*.safetensors")):
        if path.stem in set(names):
            shutil.copyfile(path, folder / "gentext" / "zoo" / path.name)


def copy_data(folder: Path, data: Path | None) -> None:
    """The files of the whole Fashion-MNIST."""
    sys.path.insert(0, str(ROOT))
    from gentext.data import files
    from gentext.data.sources import SOURCES

    name = "fashion-mnist"
    found = files.own_folder(name, data) or files.kept_folder(name)
    if found is None:
        raise ValueError(f"{files.how_to_get(name)}; or name their folder by --data")
    archive = SOURCES[name].archive
    assert archive is not None
    target = folder / "gpu-data" / name
    target.mkdir(parents=True)
    for file in archive.files:
        shutil.copyfile(found / file.name, target / file.name)
        if not files.is_whole(target / file.name, file):
            raise ValueError(f"{found / file.name} is damaged: fetch it again")


def pack(folder: Path, parts: Iterable[str] = PARTS, data: Path | None = None) -> float:
    """Make the copy in ``folder``, which must not be there yet, and return its size in MiB."""
    if folder.exists():
        raise ValueError(f"{folder} is there already: name a new folder, or delete it")
    parts = set(parts)
    copy_code(folder)
    tests = ("pytest", "pluggy", "iniconfig", "pygments", "xdist", "execnet")
    copy_packages(folder / "gpu-site", [m for m in SMALL if "tests" in parts or m not in tests])
    names = list(FOR_RECIPES) if parts & {"tests", "weights", "notebooks"} else []
    if "notebooks" in parts:
        names += [*CLASSIFIERS, *copy_notebooks(folder)]
    copy_weights(folder, names)
    if "weights" in parts:
        copy_data(folder, data)
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20


def main() -> int:
    """Pack, or say which folders of gpu-site are needed here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data", type=Path, help="folder with the files of Fashion-MNIST")
    parser.add_argument("--lacking", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lacking:
        print(":".join(map(str, lacking())))
        return 0
    if options.folder is None or not set(options.parts) <= set(PARTS):
        parser.error(f"name a new folder, then any of {', '.join(PARTS)}")
    try:
        size = pack(options.folder, options.parts or PARTS, options.data)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.folder}: {size:.1f} MiB" + (f", above {LIMIT}" if size > LIMIT else ""))
    return 0 if size <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
