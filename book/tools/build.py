"""Build the book: ``python book/tools/build.py`` writes both languages into ``_build/html``.

The pages of one language stand in two folders, ``book/<language>`` and ``notebooks/<language>``;
they are gathered in ``_build/src/<language>`` so that addresses are short (``zh/vae.html``). Each
language is built by a process of its own: Sphinx keeps translated words in module globals. Every
warning is an error. Notebooks are not run; they carry their outputs.

What was built is not built again. A record holds the digest of every input of the last build. If
none differs, nothing is done. If only pages, code or tests differ, the pages made of them are read
anew and the others are kept as they were read, but *all* pages are written anew: what a page warns
of when it is read depends on that page alone, whereas its links and numbers, which are resolved
when it is written, depend on all others. Anything else, or ``--fresh``, starts from nothing. A
build that fails records what it changed as unknown, so that the next one reads it again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that this file runs as a script

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "zh")
INPUTS = (
    *("_config.yml", "constraints.txt", "book/*", "book/{}/**/*", "book/static/**/*"),
    *("book/templates/**/*", "book/tools/*.py", "book/extensions/*.py"),
    *("notebooks/{}/*.ipynb", "gentext/**/*.py", "tests/**/test_*.py"),
)
UNFINISHED = "unfinished"  # stands in the record of a build that failed
# A change to one of these leaves the other pages as they were read.
SEPARATE = (
    *("notebooks/", "book/en/", "book/zh/", "book/static/", "book/templates/", "book/index.html"),
    *("book/references.bib", "book/glossary.yml", "gentext/", "tests/", UNFINISHED),
)
# The pages that are made of other files than their own.
GATHERED = {
    "equations": ("notebooks/", "book/", "gentext/", "tests/"),
    "bibliography": ("notebooks/", "book/"),
    "glossary": ("book/glossary.yml",),
    "api": ("gentext/",),
}


def merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the entries of ``extra``, nested dictionaries entry by entry."""
    both = dict(base)
    for key, value in extra.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merge(both[key], value) if nested else value
    return both


def read_yaml(path: Path) -> dict[str, Any]:
    """The dictionary in a YAML file; an empty file gives an empty one."""
    return yaml.safe_load(path.read_text("utf-8")) or {}


def site_url(repository: str) -> str:
    """The address of the published pages of a repository on GitHub, without a final slash."""
    owner, name = repository.rstrip("/").split("/")[-2:]
    host = f"{owner.lower()}.github.io"
    return f"https://{host}" if name.lower() == host else f"https://{host}/{name}"


def stems(toc: dict[str, Any]) -> list[str]:
    """Every page that the table of contents names, in reading order."""
    return [toc["root"], *(stem for part in toc["parts"] for stem in part["chapters"])]


def sources(root: Path, language: str) -> dict[str, Path]:
    """The file of each page; an error names a page without file and a notebook without page."""
    toc = read_yaml(root / "book" / "toc.yml")
    places = (
        root / "notebooks" / language / "{}.ipynb",
        root / "book" / language / "{}.md",
        root / "book" / "{}.yml",
    )
    found = {}
    for stem in stems(toc):
        paths = [Path(str(place).format(stem)) for place in places]
        here = [path for path in paths if path.is_file()]
        if len(here) != 1:
            raise ValueError(
                f"book/toc.yml names {stem!r}, for which exactly one of "
                f"{' and '.join(str(path.relative_to(root)) for path in paths)} has to exist, "
                f"but {len(here)} do; add the file or take the name out of book/toc.yml"
            )
        found[stem] = here[0]
    for path in sorted((root / "notebooks" / language).glob("*.ipynb")):
        if path not in found.values():
            raise ValueError(f"{path.relative_to(root)} is not in book/toc.yml; add {path.stem!r}")
    return found


def configuration(root: Path, language: str) -> dict[str, Any]:
    """Jupyter Book's settings for one language, with all that derives from the public address."""
    settings = merge(
        read_yaml(root / "_config.yml"), read_yaml(root / "book" / language / "_config.yml")
    )
    site = site_url(settings["repository"]["url"])
    settings["repository"]["path_to_book"] = f"notebooks/{language}"
    settings["html"]["baseurl"] = f"{site}/{language}/"
    sphinx = settings["sphinx"]["config"]
    sphinx["templates_path"] = [str(root / "book" / "templates")]
    sphinx["html_static_path"] = [str(root / "book" / "static")]
    sphinx["gt_root"] = str(root)
    context = {"gt_site": site, "gt_languages": {"en": "en", "zh": "zh-CN"}}
    sphinx["html_context"] = merge(sphinx["html_context"], context)
    return settings


def contents(root: Path, language: str) -> dict[str, Any]:
    """The table of contents of one language in the form that sphinx-external-toc reads."""
    toc = read_yaml(root / "book" / "toc.yml")
    parts = [
        {
            **part,
            "caption": part["caption"][language],
            "chapters": [{"file": stem} for stem in part["chapters"]],
        }
        for part in toc["parts"]
    ]
    return {"format": "jb-book", "root": toc["root"], "parts": parts}


def stage(root: Path, language: str) -> Path:
    """Gather the pages, settings and contents of one language in a fresh folder."""
    from book.tools import glossary  # here, since it takes long and is not needed for a check

    files = sources(root, language)
    folder = root / "_build" / "src" / language
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in files.values():
        if path.suffix != ".yml":
            shutil.copy2(path, folder)
            continue
        page = folder / f"{path.stem}.md"
        page.write_text(glossary.page(language, root), "utf-8")
    for name, value in (
        ("_config.yml", configuration(root, language)),
        ("_toc.yml", contents(root, language)),
    ):
        text = yaml.safe_dump(value, allow_unicode=True, sort_keys=False)
        (folder / name).write_text(text, "utf-8")
    return folder


def digest(data: bytes) -> str:
    """A short name for some content."""
    return hashlib.sha256(data).hexdigest()


def inputs(root: Path, language: str) -> dict[str, str]:
    """The digest of everything that the pages of one language depend on, by name."""
    paths = {path for pattern in INPUTS for path in root.glob(pattern.format(language))}
    found = {
        path.relative_to(root).as_posix(): digest(path.read_bytes())
        for path in sorted(paths)
        if path.is_file() and "__pycache__" not in path.parts
    }
    folders = sorted(path.name for place in sys.path for path in Path(place).glob("*.dist-info"))
    return {**found, "packages": digest("\n".join([sys.version, *folders]).encode())}


def output(root: Path, kind: str, language: str) -> Path:
    """The folder of what is built for one language: ``html``, ``doctrees``."""
    return root / "_build" / kind / language


def record(root: Path, language: str) -> Path:
    """The file with the inputs of the last build; it goes with the pages that were read then."""
    return output(root, "doctrees", language) / "inputs.json"


def recorded(root: Path, language: str) -> dict[str, str]:
    """The inputs of the last build; none where there was no build, or it was broken off."""
    try:
        return json.loads(record(root, language).read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def is_built(root: Path, language: str) -> bool:
    """Whether the pages of one language are there and nothing that they depend on has changed."""
    there = (output(root, "html", language) / "index.html").is_file()
    return there and recorded(root, language) == inputs(root, language)


def changed(last: dict[str, str], now: dict[str, str]) -> set[str]:
    """The names of inputs that came, went or are different."""
    return {name for name in last.keys() | now.keys() if last.get(name) != now.get(name)}


def is_separate(name: str) -> bool:
    """Whether a change of this input leaves the other pages as they were read."""
    return name.startswith(SEPARATE) and not name.endswith("_config.yml")


def forget(root: Path, language: str, names: set[str]) -> None:
    """Make Sphinx read the pages again that are made of these inputs."""
    for stem, path in sources(root, language).items():
        own = path.relative_to(root).as_posix()
        if any(name.startswith((own, *GATHERED.get(stem, ()))) for name in names):
            (output(root, "doctrees", language) / f"{stem}.doctree").unlink(missing_ok=True)


def build(root: Path, language: str, *, fresh: bool = False) -> int:
    """Build one language in this process; 0 when there was no warning."""
    now, last = inputs(root, language), {} if fresh else recorded(root, language)
    names = changed(last, now)
    if not all(is_separate(name) for name in names):
        last = {}
    if last:
        forget(root, language, names)
    else:
        shutil.rmtree(output(root, "doctrees", language), ignore_errors=True)
    record(root, language).unlink(missing_ok=True)  # if this is broken off, all is read again
    failed = 1
    try:
        failed = run_sphinx(root, language)
    finally:
        unknown = {**last, **dict.fromkeys((*names, UNFINISHED), "")} if last else {}
        text = json.dumps(unknown if failed else now, indent=0)
        record(root, language).parent.mkdir(parents=True, exist_ok=True)
        record(root, language).write_text(text, "utf-8")
    return failed


def run_sphinx(root: Path, language: str) -> int:
    """Read the pages that Sphinx has not kept and write all; 0 when there was no warning."""
    from jupyter_book.sphinx import build_sphinx

    folder, html = stage(root, language), output(root, "html", language)
    shutil.rmtree(html, ignore_errors=True)
    result = build_sphinx(
        folder,
        html,
        path_config=folder / "_config.yml",
        noconfig=True,
        doctreedir=output(root, "doctrees", language),
        confoverrides={"external_toc_path": "_toc.yml", "latex_individualpages": False},
        warningiserror=True,
        keep_going=True,
        quiet=True,
        force_all=True,
    )
    if isinstance(result, Exception):
        raise result
    return result or 0


def front_door(root: Path) -> None:
    """Write the page that sends readers to their language, and the file that Pages looks for."""
    site = site_url(read_yaml(root / "_config.yml")["repository"]["url"])
    page = string.Template((root / "book" / "index.html").read_text("utf-8"))
    html = root / "_build" / "html"
    html.mkdir(parents=True, exist_ok=True)
    (html / "index.html").write_text(page.substitute(site=site), "utf-8")
    (html / ".nojekyll").touch()


def build_all(root: Path, languages: tuple[str, ...], *, fresh: bool = False) -> int:
    """Build languages side by side, one process each; the number that failed."""
    command = [sys.executable, str(Path(__file__).resolve()), "--in-process"]
    command += ["--fresh"] if fresh else []
    threads = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    running = [
        (language, subprocess.Popen([*command, language], cwd=root, env={**os.environ, **threads}))
        for language in languages
        if fresh or not is_built(root, language)
    ]
    failed = [language for language, process in running if process.wait()]
    for language in failed:
        print(f"The {language} book was not built: see the messages above.", file=sys.stderr)
    if not failed:
        front_door(root)
        for path in ("", *languages):
            print(f"Open {(root / '_build' / 'html' / path / 'index.html').as_uri()}")
    return len(failed)


def main() -> int:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("languages", nargs="*", help="en, zh; without: both")
    parser.add_argument("--fresh", action="store_true", help="build from nothing")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    languages = tuple(options.languages) or LANGUAGES
    if unknown := set(languages) - set(LANGUAGES):
        parser.error(f"unknown language {sorted(unknown)}; there are {', '.join(LANGUAGES)}")
    if not options.in_process:
        return build_all(ROOT, languages, fresh=options.fresh)
    sys.path[:] = [str(ROOT), *(path for path in sys.path if path != str(ROOT / "book" / "tools"))]
    try:
        return build(ROOT, *languages, fresh=options.fresh)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
