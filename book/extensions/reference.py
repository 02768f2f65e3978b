"""Sphinx extension: the reference of the package, one section a module, derived from its files.

The directive ``package-reference`` documents every module of ``gentext`` under the heading of its
folder. The order is that of `FOLDERS`.
Annotations name shapes, which link to the first section, and types of other packages, which stay
plain text because their documentation is elsewhere.
"""

from __future__ import annotations

import builtins
import functools
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import signature, stringify_signature
from sphinx.util.nodes import make_refnode

from book.tools import equations

FOLDERS = {  # in the order of the page, each with its heading
    "core": ("Foundations", "基础"),
    "nn": ("Building blocks", "构件"),
    "tokens": ("Texts as tokens", "文本与词元"),
    "latent": ("Latent variables", "隐变量模型"),
    "sequences": ("Sequences", "序列模型"),
    "flows": ("Invertible maps", "可逆映射"),
    "denoising": ("Diffusion", "扩散"),
    "adversarial": ("Games", "博弈"),
    "transfer": ("Pre-training and fine-tuning", "预训练与微调"),
    "sound": ("Sound", "声音"),
    "data": ("Data", "数据"),
    "training": ("Training", "训练"),
    "evaluation": ("Evaluation", "评估"),
    "figures": ("Figures and frames", "图与动画"),
    "zoo": ("Recorded weights", "已训练的权重"),
    "recipes": ("Experiments", "实验"),
}
COMMANDS = {"cli"}  # which have their own --help
ALIAS = re.compile(r"^(\w+) = (\w+\[.+?\])(?:  # (.+))?$", re.MULTILINE)
OPTIONS = ("members", "ignore-module-all", "show-inheritance")  # what a module defines itself
SHAPES = "gentext.core.shapes"
STAR = re.compile(r"(?<![\w*`\\])\*(?=[a-z_]+\b(?!\*))")  # as in "shape (n, *event)"


def modules(root: Path) -> dict[str, list[str]]:
    """The dotted names of the package's modules by folder; an error names a folder without heading.

    A folder that holds code of its own comes first in it.
    """
    package = root / "gentext"
    folders = {path.parent.name for path in package.glob("*/__init__.py")} - COMMANDS
    if unknown := folders - FOLDERS.keys():
        raise ValueError(f"give {sorted(unknown)} a heading in book/extensions/reference.py")
    return {folder: sorted(names(package / folder)) for folder in FOLDERS if folder in folders}


def names(folder: Path) -> Iterator[str]:
    """The modules of a folder, and the folder itself where it defines something."""
    for path in folder.glob("*.py"):
        if path.stem != "__init__":
            yield f"gentext.{folder.name}.{path.stem}"
        elif re.search(r"^(?:def|class) ", path.read_text("utf-8"), re.MULTILINE):
            yield f"gentext.{folder.name}"


def aliases(root: Path) -> list[tuple[str, str, str]]:
    """Name, value and comment of every shape in ``gentext/core/shapes.py``."""
    return ALIAS.findall((root / "gentext" / "core" / "shapes.py").read_text("utf-8"))


def described(root: Path, module: str) -> str:
    """The reStructuredText that documents one module."""
    if module != SHAPES:
        options = "".join(f"   :{option}:\n" for option in OPTIONS)
        return f".. automodule:: {module}\n{options}"
    entries = [
        f".. py:type:: {name}\n   :module: {SHAPES}\n   :canonical: {value}\n\n   {comment}\n"
        for name, value, comment in aliases(root)
    ]
    return "\n".join([f".. automodule:: {SHAPES}\n", *entries])


class PackageReference(SphinxDirective):
    """``{package-reference}``: the whole package."""

    def run(self) -> list[nodes.Node]:
        """A section for each heading, and in it one for each module."""
        root = Path(self.config.gt_root)
        chinese = self.config.language.startswith("zh")
        out: list[nodes.Node] = []
        for folder, here in modules(root).items():
            section = self.section(FOLDERS[folder][chinese], f"reference-folder-{folder}")
            section.extend(self.module(root, module) for module in here)
            out.append(section)
        return out

    def section(self, title: str, name: str, *, literal: bool = False) -> nodes.section:
        """An empty section."""
        heading = nodes.title("", "", nodes.literal("", title) if literal else nodes.Text(title))
        return nodes.section("", heading, ids=[nodes.make_id(name)], names=[])

    def module(self, root: Path, module: str) -> nodes.section:
        """The section of one module."""
        stem = module.rpartition(".")[2]
        section = self.section(module, f"reference-{stem}", literal=True)
        text = f"```{{eval-rst}}\n{described(root, module)}```\n"
        lines = StringList(text.splitlines(), source=f"{module.replace('.', '/')}.py")
        self.state.nested_parse(lines, self.content_offset, section)
        return section


def name_shapes(app: Sphinx, config: Config) -> None:
    """Show the names of shapes in signatures, not what they stand for."""
    shapes = aliases(Path(config.gt_root))
    config.autodoc_type_aliases = {name: f"{SHAPES}.{name}" for name, _, _ in shapes}


def show_constructor(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str | None, returned: str
) -> tuple[str, str | None] | None:
    """A class that only notes in ``__new__`` what it is given is called as ``__init__`` says."""
    if what != "class" or not all(map(inspect.isfunction, (obj.__new__, obj.__init__))):
        return None
    return stringify_signature(signature(obj.__init__, True), show_annotation=False), None


@functools.cache
def planned(root: Path) -> set[str]:
    """The labels of chapters to come, read once for all docstrings."""
    return equations.planned(root)


def name_planned(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Equations of chapters to come are named, since there is nothing yet to link to."""
    labels = planned(Path(app.config.gt_root))
    for number, line in enumerate(lines):
        lines[number] = equations.ROLE.sub(
            lambda match: f"``{match[1]}``" if match[1] in labels else match[0], line
        )


def escape_stars(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep the star of a shape such as (n, *event) from opening emphasis."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.+?``)", line)
        parts[::2] = [STAR.sub(r"\\*", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def namesakes(name: str) -> Iterator[Any]:
    """What a name stands for among the builtins and in the modules of the package."""
    for module in (builtins, *package()):
        if name in vars(module):
            yield vars(module)[name]


@functools.cache
def package() -> list[ModuleType]:
    """The modules of the package; a build that keeps the reference has not imported them yet."""
    folder = importlib.import_module("gentext").__path__
    for module in pkgutil.walk_packages(folder, "gentext."):
        if not module.name.startswith(("gentext._", "gentext.datasets")):
            importlib.import_module(module.name)
    return [module for key, module in sorted(sys.modules.items()) if key.startswith("gentext.")]


@functools.cache
def is_foreign(target: str) -> bool:
    """Whether an annotation names something that this book does not document."""
    if not re.fullmatch(r"\w+(\.\w+)*", target):
        return True  # the shape in Float[Tensor, "n d"]
    first = target.partition(".")[0]
    if first == "gentext":
        return False
    if importlib.util.find_spec(first):
        return True
    homes = [getattr(found, "__module__", None) or "" for found in namesakes(first)]
    return bool(homes) and not any(home.startswith("gentext") for home in homes)


def note_foreign(app: Sphinx, doctree: nodes.document) -> None:
    """Keep with each name of Python whether it is foreign: to tell that takes the package."""
    for node in doctree.findall(addnodes.pending_xref):
        if node.get("refdomain") == "py":
            node["gt_foreign"] = is_foreign(node["reftarget"])


def resolve_types(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Link shapes that are named without their module; leave foreign types unlinked."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    shape = f"{SHAPES}." + target.rpartition(".")[2]
    known = env.get_domain("py").objects.get(shape)  # type: ignore[attr-defined]
    if known:
        docname = node.get("refdoc", env.docname)
        return make_refnode(app.builder, docname, known.docname, known.node_id, contnode, shape)
    return contnode if node["gt_foreign"] else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the reference."""
    app.connect("config-inited", name_shapes)
    app.connect("autodoc-process-signature", show_constructor)
    app.connect("autodoc-process-docstring", escape_stars)
    app.connect("autodoc-process-docstring", name_planned)
    app.connect("doctree-read", note_foreign)
    app.connect("missing-reference", resolve_types)
    app.add_directive("package-reference", PackageReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
