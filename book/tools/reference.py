"""Sphinx extension: the reference of the package, one section a module, derived from its files.

The directive ``package-reference`` documents every module of ``gentext``. The order is that of
`ORDER`; a module that it does not name comes last in its alphabetical place, so nothing is lost.
Annotations name shapes, which link to the first section, and types of other packages, which stay
plain text because their documentation is elsewhere.
"""

from __future__ import annotations

import builtins
import functools
import importlib.util
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
from sphinx.util.nodes import make_refnode

from book.tools import equations

ORDER = {
    ("Foundations", "基础"): "shapes core distributions nets decoding transformer ode toys",
    ("Models", "模型"): (
        "autoencoder vae conditional_vae estimators vqvae gan autoregressive recurrent ngram made "
        "gpt scaling bert seq2seq pixelcnn wavenet flow diffusion score flow_matching "
        "latent_diffusion audio ctc finetune"
    ),
    ("Data, training and evaluation", "数据、训练与评估"): (
        "data text tokenizer words pairs metrics train checkpoint recipes zoo"
    ),
    ("Figures and frames", "图与动画"): "plot widgets",
}
REST = ("More", "其他")
ALIAS = re.compile(r"^(\w+) = (\w+\[.+?\])(?:  # (.+))?$", re.MULTILINE)
STAR = re.compile(r"(?<![\w*`\\])\*(?=[a-z_]+\b(?!\*))")  # as in "shape (n, *event)"


def modules(root: Path) -> list[str]:
    """The public modules of the package, by name."""
    files = sorted((root / "gentext").glob("*.py"))
    packages = [path.parent for path in sorted((root / "gentext").glob("*/__init__.py"))]
    return sorted(path.stem for path in (*files, *packages) if not path.stem.startswith("_"))


def ordered(names: list[str]) -> list[tuple[tuple[str, str], list[str]]]:
    """Modules under the headings of `ORDER`; empty headings are left out."""
    left = list(names)
    groups = []
    for heading, stems in ORDER.items():
        here = [stem for stem in stems.split() if stem in left]
        left = [stem for stem in left if stem not in here]
        groups.append((heading, here))
    return [(heading, here) for heading, here in (*groups, (REST, left)) if here]


def aliases(root: Path) -> list[tuple[str, str, str]]:
    """Name, value and comment of every shape in ``gentext/shapes.py``."""
    return ALIAS.findall((root / "gentext" / "shapes.py").read_text("utf-8"))


def described(root: Path, stem: str) -> str:
    """The reStructuredText that documents one module."""
    if stem != "shapes":
        return f".. automodule:: gentext.{stem}\n   :members:\n   :show-inheritance:\n"
    entries = [
        f".. py:type:: {name}\n   :module: gentext.shapes\n   :canonical: {value}\n\n   {comment}\n"
        for name, value, comment in aliases(root)
    ]
    return "\n".join([".. automodule:: gentext.shapes\n", *entries])


class PackageReference(SphinxDirective):
    """``{package-reference}``: the whole package."""

    def run(self) -> list[nodes.Node]:
        """A section for each heading, and in it one for each module."""
        root = Path(self.config.gt_root)
        chinese = self.config.language.startswith("zh")
        out: list[nodes.Node] = []
        for heading, stems in ordered(modules(root)):
            section = self.section(heading[chinese], f"reference-{heading[0].split()[0].lower()}")
            section.extend(self.module(root, stem) for stem in stems)
            out.append(section)
        return out

    def section(self, title: str, name: str, *, literal: bool = False) -> nodes.section:
        """An empty section."""
        heading = nodes.title("", "", nodes.literal("", title) if literal else nodes.Text(title))
        return nodes.section("", heading, ids=[nodes.make_id(name)], names=[])

    def module(self, root: Path, stem: str) -> nodes.section:
        """The section of one module."""
        section = self.section(f"gentext.{stem}", f"reference-{stem}", literal=True)
        text = f"```{{eval-rst}}\n{described(root, stem)}```\n"
        lines = StringList(text.splitlines(), source=f"gentext/{stem}.py")
        self.state.nested_parse(lines, self.content_offset, section)
        return section


def name_shapes(app: Sphinx, config: Config) -> None:
    """Show the names of shapes in signatures, not what they stand for."""
    shapes = aliases(Path(config.gt_root))
    config.autodoc_type_aliases = {name: f"gentext.shapes.{name}" for name, _, _ in shapes}


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
        if hasattr(module, name):
            yield getattr(module, name)


@functools.cache
def package() -> list[ModuleType]:
    """The modules of the package; a build that keeps the reference has not imported them yet."""
    folder = importlib.import_module("gentext").__path__
    for module in pkgutil.iter_modules(folder, "gentext."):
        if not module.name.startswith("gentext._"):
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
    shape = "gentext.shapes." + target.rpartition(".")[2]
    known = env.get_domain("py").objects.get(shape)  # type: ignore[attr-defined]
    if known:
        docname = node.get("refdoc", env.docname)
        return make_refnode(app.builder, docname, known.docname, known.node_id, contnode, shape)
    return contnode if node["gt_foreign"] else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the reference."""
    app.connect("config-inited", name_shapes)
    app.connect("autodoc-process-docstring", escape_stars)
    app.connect("autodoc-process-docstring", name_planned)
    app.connect("doctree-read", note_foreign)
    app.connect("missing-reference", resolve_types)
    app.add_directive("package-reference", PackageReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
