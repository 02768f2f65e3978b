"""The repository's own files agree with each other and with what they promise."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tokenize
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gentext
from gentext.cli import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
REPOSITORY = CONFIG["repository"]["url"]
OWNER, NAME = REPOSITORY.split("/")[-2:]
THIRD_PARTY = ("book/static/vendor/*", "gentext/fonts/*", "LICENSE*")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every text of the repository by its path, without what others wrote and without pictures."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout, so there is no list of files")
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not any(fnmatch(name, skip) for skip in THIRD_PARTY):
            content = (ROOT / name).read_bytes()
            if b"\0" not in content:
                found[name] = re.sub(r"[A-Za-z0-9+/]{200,}", "", content.decode("utf-8"))
    return found


# --- one public address --------------------------------------------------------------------------


def test_the_public_address_is_the_one_of_the_configuration(texts):
    patterns = (
        rf"github\.com[/:]([\w.-]+/{NAME})\b",
        rf"\b([\w-]+)\.github\.io/{NAME}\b",
        rf"colab\.research\.google\.com/github/([\w.-]+/{NAME})\b",
    )
    allowed = {f"{OWNER}/{NAME}", OWNER}
    for name, text in texts.items():
        for pattern in patterns:
            for found in re.finditer(pattern, text):
                assert found[1] in allowed, f"{name}: {found[0]} is not {REPOSITORY}"


def test_the_project_and_its_citation_name_the_address():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["repository-code"] == REPOSITORY
    assert citation["url"] == f"https://{OWNER}.github.io/{NAME}"
    for url in PROJECT["project"].get("urls", {}).values():
        assert url.startswith((REPOSITORY, citation["url"]))


# --- READMEs -------------------------------------------------------------------------------------

ROW = re.compile(r"^\| (\d+) \| \[(.+?)\]\((.+?)\) \| (\[`\w+`\]\(.+?\)) \| (.+) \|$", re.MULTILINE)
MODULE = re.compile(r"\[`(\w+)`\]\((\S+?)\)")


def chapters() -> list[str]:
    """The stems of the numbered chapters, in reading order."""
    contents = yaml.safe_load((ROOT / "book" / "toc.yml").read_text("utf-8"))
    return [s for part in contents["parts"] if part.get("numbered") for s in part["chapters"]]


@pytest.mark.parametrize("language", READMES)
def test_the_readme_lists_the_chapters_of_the_book(language):
    rows = ROW.findall(READMES[language].read_text("utf-8"))
    assert [row[2] for row in rows] == [f"notebooks/{language}/{s}.ipynb" for s in chapters()]
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    for _, title, notebook, modules, links in rows:
        cells = json.loads((ROOT / notebook).read_text("utf-8"))["cells"]
        assert "".join(cells[0]["source"]).splitlines()[0] == f"# {title}"
        for module, source in MODULE.findall(modules):
            assert re.fullmatch(rf"gentext/\w+/{module}\.py", source)
            assert (ROOT / source).is_file()
        stem, colab = Path(notebook).stem, "https://colab.research.google.com/github"
        branch = CONFIG["repository"]["branch"]
        for other, label in (("en", "English"), ("zh", "中文")):
            place = f"{OWNER}/{NAME}/blob/{branch}/notebooks/{other}/{stem}.ipynb"
            assert f"[{label}]({colab}/{place})" in links


@pytest.mark.parametrize("name", ["README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_within_the_repository_lead_somewhere(name):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text("utf-8"))
    missing = [x for x in links if "://" not in x and not (ROOT / x.split("#")[0]).exists()]
    assert missing == []


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language in a Markdown file."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)


def without_comments(code: str) -> list[str]:
    """The tokens of Python code, without comments."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token.string for token in tokens if token.type != tokenize.COMMENT]


def test_both_readmes_show_the_same_example():
    (english,), (chinese,) = (blocks(path, "python") for path in READMES.values())
    assert without_comments(english) == without_comments(chinese)


def test_the_example_of_the_readme_runs(tmp_path):
    (example,) = blocks(READMES["en"], "python")
    assert len([line for line in example.splitlines() if line]) <= 10
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=tmp_path,
        env={**os.environ, "GENTEXT_BUDGET": "quick", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    short, long = (int(re.search(r"(-?\d+) nats", line)[1]) for line in done.stdout.splitlines())
    assert long > short
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_the_weights_of_the_example_were_made_as_the_readme_says():
    """By the same recipe, trained for longer and on the full set."""
    card = gentext.zoo.card("vae_fashion")
    assert card["recipe"] == "vae_fashion"
    assert card["config"]["steps"] > 100
    assert card["data"] | {"train": 60_000, "source": "the full set"} == card["data"]


def test_the_readme_names_the_command_that_ci_runs():
    for path in READMES.values():
        assert any("make test" in block for block in blocks(path, "bash"))
    assert re.search(r"^make test\b", (ROOT / ".ci" / "run").read_text("utf-8"), re.M)


@pytest.mark.parametrize(
    "path", [*READMES.values(), ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name
)
def test_commands_of_gentext_in_the_documents_can_be_given(path):
    text = path.read_text("utf-8")
    for line in re.findall(r"(?:^|`)gentext ([^`\n]+)", text, re.M):
        arguments = shlex.split(line)
        command = typer.main.get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        with command.make_context("gentext", arguments):  # an unknown option is an error
            assert command.callback


def test_make_targets_of_the_documents_exist():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    documents = [*READMES.values(), ROOT / "CONTRIBUTING.md", *WORKFLOWS]
    for path in documents:
        used = re.findall(r"(?:^|`|run: )make ([a-z]+)", path.read_text("utf-8"), re.M)
        assert set(used) <= set(targets), path.name


# --- versions ------------------------------------------------------------------------------------


def constraints() -> dict[str, tuple[str, str]]:
    """Version and marker by package, from constraints.txt."""
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            found = re.fullmatch(r'([\w.-]+)==([\w.]+)(?: ; (python_version >= "3\.\d+"))?', line)
            assert found, f"constraints.txt has more than a package and a version: {line!r}"
            pinned[canonicalize_name(found[1])] = (found[2], found[3] or "")
    return pinned


def requirements() -> list[Requirement]:
    """Everything that pyproject.toml asks for."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in lines]


def test_every_direct_dependency_has_a_tested_version_within_its_range():
    pinned = constraints()
    for requirement in requirements():
        version, _ = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but tested with {version}"
    assert pinned["torch"] == ("2.13.0", "")


def lowest() -> list[str]:
    """The lowest version of everything that the package and its tests need, in constraints."""
    project = PROJECT["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    floors = []
    for requirement in map(Requirement, lines):
        (bound,) = requirement.specifier
        assert bound.operator == ">=", f"{requirement} has no lowest version"
        floors.append(f"{requirement.name}=={bound.version}")
    return sorted(floors, key=str.lower)


def test_the_lowest_versions_are_those_of_the_project_and_are_tried():
    lines = (ROOT / "constraints-lowest.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == lowest()
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "weekly.yml").read_text("utf-8"))[
        "jobs"
    ]
    commands = [step.get("run", "") for step in jobs["lowest"]["steps"]]
    assert any("--constraint constraints-lowest.txt" in command for command in commands)


def imports(code: str) -> set[str]:
    """The packages that Python code imports, but for what it does without (``try``)."""
    tree = ast.parse(code)
    tried = {id(x) for node in ast.walk(tree) if isinstance(node, ast.Try) for x in ast.walk(node)}
    found = set()
    for node in (node for node in ast.walk(tree) if id(node) not in tried):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names)


def test_what_a_chapter_imports_comes_with_the_package():
    needed = {canonicalize_name(Requirement(x).name) for x in PROJECT["project"]["dependencies"]}
    for path in (ROOT / "notebooks" / "en").glob("*.ipynb"):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            code = re.sub(r"^[%!].*", "", "".join(cell["source"]), flags=re.M)
            for name in imports(code) - {"gentext"}:
                package = {"sklearn": "scikit-learn"}.get(name, name)
                assert package in needed, f"{path.name} imports {name}"


def test_the_environment_file_has_no_second_list_of_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['project']['requires-python']}", "pip"]
    assert pip == {"pip": ["-e .[book,test]"]}


def test_one_version_everywhere():
    version = PROJECT["project"]["version"]
    assert gentext.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == version
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    first = re.search(r"^## \[(.+?)\] - (unreleased|\d{4}-\d\d-\d\d)$", changes, re.M)
    assert first is not None
    assert first[1] == version


# --- automation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_files_follow_their_schema(schema, paths):
    assert paths
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_covers_every_python_that_the_package_allows():
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    versions = ci["jobs"]["library"]["strategy"]["matrix"]["python"]
    assert versions == ["3.10", "3.11", "3.12", "3.13"]
    assert PROJECT["project"]["requires-python"] == f">={versions[0]}"


def test_ci_covers_every_folder_and_every_part_of_the_book():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]

    def listed(job: str) -> list[str]:
        rows = jobs[job]["strategy"]["matrix"]["folders"]
        return sorted(folder for row in rows for folder in row.split())

    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert listed("library") == sorted(folders - {"book"})
    parts = yaml.safe_load((ROOT / "book" / "toc.yml").read_text("utf-8"))["parts"]
    assert listed("notebooks") == sorted(part["folder"] for part in parts if "folder" in part)


def test_hooks_are_local_and_leave_outputs_alone():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    entries = [hook["entry"] for hook in hooks[0]["hooks"]]
    for tool in ("ruff check", "ruff format", "mypy", "notebooks.py check"):
        assert any(tool in entry for entry in entries), tool
    assert not any("nbstripout" in entry for entry in entries)


@pytest.mark.parametrize(
    ("recipe", "code", "last"),
    [
        ("@echo '=== 3 passed in 1.00s ==='", 0, "=== 3 passed in 1.00s ==="),
        ("@echo '=== 1 failed in 1.00s ==='; exit 1", 1, "=== 1 failed in 1.00s ==="),
        ("@echo 'style'; exit 3", 3, "make: *** [Makefile:2: test] Error 3"),
    ],
)
def test_ci_run_ends_with_the_line_and_code_of_pytest(tmp_path, recipe, code, last):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / ".venv").mkdir()
    (tmp_path / "Makefile").write_text(f"test:\n\t@test ! -e .venv\n\t{recipe}\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    command = ["bash", str(tmp_path / ".ci" / "run")]
    done = subprocess.run(
        command, env={**environment, "LC_ALL": "C"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert re.sub(r"\d+: test", "2: test", done.stdout.splitlines()[-1]) == last


# --- the package ---------------------------------------------------------------------------------


def test_the_wheel_has_every_file_of_the_package():
    """Those that git knows; folders of code are found by their ``__init__.py``."""
    globs = PROJECT["tool"]["setuptools"]["package-data"]["gentext"]
    folder = ROOT / "gentext"
    data = {path for glob in globs for path in folder.glob(glob)}
    files = [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    codes = {p for p in files if p.suffix == ".py" and (p.parent / "__init__.py").is_file()}
    assert set(files) - data - codes == set()
    for part in ("datasets/fashion-mnist.npz", "fonts/gentext-sans.otf", "fonts/OFL.txt"):
        assert folder / part in data
    places = {path.relative_to(folder).parts[0] for path in data}
    assert places >= {"datasets", "fonts", "zoo", "py.typed", "__init__.pyi"}


def test_the_source_distribution_has_every_file_of_the_repository(texts):
    filelist = pytest.importorskip("setuptools._distutils.filelist")
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    manifest = filelist.FileList()
    manifest.set_allfiles([name for name in names if name and (ROOT / name).is_file()])
    for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            manifest.process_template_line(line)
    assert set(manifest.allfiles) - set(manifest.files) == set()


# --- what no file says ---------------------------------------------------------------------------

# Each is written so that it does not find itself.
PLACES = r"(?<![\w.])/(?:w[o]rk|r[o]ot|f[a]rm|h[o]me/\w+|t[m]p/\w|o[p]t)/"
REGISTRIES = (
    r"p[y]pi\.org|p[y]thonhosted\.org|n[p]mjs\.(?:org|com)|anac[o]nda\.org|d[o]wnload\.pytorch"
)


@pytest.mark.parametrize("pattern", [PLACES, REGISTRIES], ids=["places", "registries"])
def test_no_file_depends_on_one_machine_or_registry(texts, pattern):
    found = {name: re.findall(pattern, text) for name, text in texts.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}


def unsafe(source: str) -> list[str]:
    """Calls and imports in Python code that run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [n for n in names if n.split(".")[0] in {"pickle", "cloudpickle", "dill"}]
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.save"}:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found += [] if ast.unparse(node.value) == "False" else ["allow_pickle"]
    return found


def test_nothing_unpickles(texts):
    codes = {name: text for name, text in texts.items() if name.endswith(".py")}
    assert codes
    assert {name: unsafe(text) for name, text in codes.items() if unsafe(text)} == {}
    for name in (name for name in texts if name.endswith(".ipynb")):
        assert not re.search(r"\bpickle\b|torch\.(?:load|save)\(", texts[name]), name
