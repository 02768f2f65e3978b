"""What a prose cell consists of: display equations, labels, references, numbers, plain words.

Everything here reads a prose cell's Markdown as the book's conventions have it: display equations
``$$…$$ (label)``, references ``[text](#label)``, directives ``:::{name}``.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from markdown_it import MarkdownIt

HAN = "\u3400-\u4dbf\u4e00-\u9fff"
DISPLAY = re.compile(r"\$\$(.+?)\$\$(?:[ \t]*\(([^()\s]+)\))?", re.DOTALL)
INLINE = re.compile(r"(?<![\\$])\$(?!\$)((?:\\.|[^$\\\n]|\n(?!\s*\n))+?)\$(?!\$)")
FENCE = re.compile(
    r"^([ \t]*)(`{3,}|~{3,})[ \t]*(\S*).*?^[ \t]*\2[`~]*[ \t]*$", re.DOTALL | re.MULTILINE
)
CODE_FENCES = {"{code}", "{code-block}", "{code-cell}", "{math}", "{eval-rst}", "{literalinclude}"}
INLINE_CODE = re.compile(r"(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\1(?!`)", re.DOTALL)
OPTION = re.compile(r"^[ \t]*:[\w-]+:.*$", re.MULTILINE)
LINK_TARGET = re.compile(r"\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\)")
TAG = re.compile(r"<(?:/?[a-zA-Z][^<>]*|https?:[^<>]*|!--.*?--)>", re.DOTALL)
ADDRESS = re.compile(r"https?://[^\s)>，。；）]+")
ROLE = re.compile(r"\{(?:cite[\w:]*|eq|numref|ref|doc|prf:ref)\}`([^`]+)`")
REFERENCE = re.compile(
    r"#(?:cite|eq|fig|tab|ex|sol|sec|ch|app|alg|thm|def)-.+|.+\.(?:ipynb|md)(?:#.*)?"
)
LABEL = re.compile(r"^\(([^()\s]+)\)=[ \t]*$|^[ \t]*:(?:label|name):[ \t]*(\S+)", re.MULTILINE)
BARE = re.compile(r"(?:\\(?:approx|sim|pm)\s*)?[-+]?(\d[\d.,]*|\.\d+)\s*(\\?%)?")
OUTLINE = re.compile(
    r"^(#{1,6})(?=[ \t])|^[ \t]*:{3,}(\{[\w:-]+\})[ \t]*((?:ex|sol)-[\w-]+)?", re.MULTILINE
)
TEXT = re.compile(r"(\\(?:text(?:rm|it|bf|normal)?|mbox|intertext)\{[^{}]*\})")
UNIT = r"[ \u00a0]?(?:million|billion|thousand|[万亿千百]|[kKMG](?![A-Za-z]))"
NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])(?<![A-Za-z]-)"  # no part of a word or of a version
    r"((?:\d{1,3}(?:,\d{3})+|\d+)?\.\d+(?:e-?\d+)?|\d+)(?!\d|\.\d)"
    rf"([ \u00a0]?(?:\\?%|％|percent|per cent))?({UNIT})?"
)
HALF_WIDTH = re.compile(
    rf"[{HAN}）”](?:[,;:!?)]|\.(?![A-Za-z0-9])|[ ]?\(|\")"  # after Chinese
    rf"|(?:[,;!?] ?|[:\"])(?=[{HAN}])|\([^()\n]*[{HAN}]"  # before it
)
ALMOST_EQUAL = {"approx", "isclose", "allclose", "assert_close", "assert_allclose"}
TOLERANCES = {"abs", "rel", "atol", "rtol", "abs_tol", "rel_tol"}


def strip_code(source: str) -> str:
    """The Markdown without code, but with the text of fenced directives."""

    def kept(fence: re.Match[str]) -> str:
        name = fence[3]
        if not name.startswith("{") or name in CODE_FENCES:
            return "\n"
        return fence[0].replace("`", "").replace("~", "").replace(name, "", 1)

    return INLINE_CODE.sub(" ` ", FENCE.sub(kept, source))


def plain(source: str) -> str:
    """The words of a prose cell: no code, mathematics, addresses, options or tags.

    A number alone between dollar signs is a word. What is taken out leaves a mark that is neither
    a letter nor punctuation.
    """
    text = DISPLAY.sub(" ¤ ", strip_code(source))
    text = INLINE.sub(lambda m: bare_number(m[1]) or "¤", text)
    text = TAG.sub("", OPTION.sub("", text))
    text = LINK_TARGET.sub("]", ROLE.sub("¤", text))
    return ADDRESS.sub("¤", LABEL.sub("", text))


def bare_number(mathematics: str) -> str | None:
    """The number that is all there is between two dollar signs, if so."""
    found = BARE.fullmatch(mathematics.strip())
    return f" {found[1]}{'%' if found[2] else ''} " if found else None


def equations(source: str) -> list[tuple[str, str]]:
    """The display equations in order, as (text in one line, label or '')."""
    found = DISPLAY.findall(strip_code(source))
    return [(" ".join(text.split()).rstrip(" .,;。，；"), label) for text, label in found]


def same_mathematics(en: str, zh: str) -> bool:
    """Whether two equations agree, up to words in ``\\text{…}`` that are Chinese in the second."""
    ours, theirs = TEXT.split(en), TEXT.split(zh)
    return len(ours) == len(theirs) and all(
        a.strip() == b.strip() or (b.startswith("\\") and re.search(f"[{HAN}]", b))
        for a, b in zip(ours, theirs, strict=True)
    )


def labels(source: str) -> set[str]:
    """The labels that the cell defines outside equations."""
    return {a or b for a, b in LABEL.findall(strip_code(source))}


def outline(source: str) -> list[str]:
    """The levels of headings and the names of directives, in order: ``##``, ``{exercise}``."""
    found = OUTLINE.findall(strip_code(source))
    return [f"{level}{name} {label}".strip() for level, name, label in found]


def references(source: str) -> set[str]:
    """The labels, citations and pages that the cell refers to."""
    links = {t for t in LINK_TARGET.findall(strip_code(source)) if not t.startswith("http")}
    roles = {part.strip() for body in ROLE.findall(source) for part in body.split(",")}
    return {target for target in links if REFERENCE.fullmatch(target)} | roles


def half_width(source: str) -> list[str]:
    """Where a Chinese text has half-width punctuation next to Chinese characters."""
    text = re.sub(r"\{[^{}]*\}|\*+|(?<!\w)_+|_+(?!\w)", "", plain(source))
    spans = (found.span() for found in HALF_WIDTH.finditer(text))
    return [text[max(a - 4, 0) : b + 4].strip().replace("\n", " ") for a, b in spans]


def stars(source: str) -> list[str]:
    """Where ``**`` is shown instead of bold type, as when it ends in "。" right before a letter."""
    words = strip_code(source).replace("`", "¤")
    inline = (token for token in MarkdownIt().parse(words) if token.children)
    texts = (child.content for token in inline for child in token.children or ())
    return [text[max(text.index("**") - 4, 0) :][:12] for text in texts if "**" in text]


def numbers(source: str) -> Counter[str]:
    """The decimals and percentages in the words of a prose cell; counts (1.9 million) are none."""
    found: Counter[str] = Counter()
    for number, percent, unit in NUMBER.findall(plain(source)):
        if percent or ("." in number and not unit):
            found[canonical(number + "%" * bool(percent))] += 1
    return found


def canonical(number: str) -> str:
    """One way of writing a number: no separators, a digit before the point, a plain %."""
    text = re.sub(r"[,\s\\]", "", number).replace("％", "%")
    return "0" + text if text.startswith(".") else text


def asserted(cells: list[str]) -> list[float]:
    """The numbers that code cells compare results with: in assertions and in what they name."""
    trees = [tree for tree in map(parsed, cells) if tree]
    scopes = [scope for tree in trees for node in ast.walk(tree) for scope in compared(node)]
    names = {node.id for scope in scopes for node in ast.walk(scope) if isinstance(node, ast.Name)}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Assign) and names & {getattr(t, "id", "") for t in node.targets}:
            scopes += [node.value] if literal(node.value) else []
    return [abs(value) for scope in scopes for value in constants(scope)]


def parsed(code: str) -> ast.Module | None:
    """The syntax tree of a code cell; none for a cell in another language."""
    try:
        return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE))
    except SyntaxError:
        return None


def compared(node: ast.AST) -> list[ast.AST]:
    """The part of a statement or call that names the values expected, if it has one."""
    if isinstance(node, ast.Assert):
        return [node]
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return [node] if name in ALMOST_EQUAL else []
    if isinstance(node, ast.For) and any(isinstance(n, ast.Assert) for n in ast.walk(node)):
        return [node.iter]
    return []


def literal(node: ast.AST) -> bool:
    """Whether an expression is made of plain values only."""
    try:
        ast.literal_eval(ast.unparse(node))
    except ValueError:
        return False
    return True


def constants(node: ast.AST) -> Iterator[float]:
    """The numbers under a node, tolerances left out."""
    if isinstance(node, ast.keyword) and node.arg in TOLERANCES:
        return
    value = getattr(node, "value", None)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)
    for child in ast.iter_child_nodes(node):
        yield from constants(child)


def confirmed(number: str, values: list[float]) -> bool:
    """Whether one of ``values``, rounded as ``number`` is, gives it; 93% also stands for 0.93."""
    text = number.rstrip("%")
    mantissa, _, exponent = text.partition("e")
    half = 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])) * (1 + 1e-6)
    scales = (1.0, 0.01) if number.endswith("%") else (1.0,)
    return any(abs(v - float(text) * s) <= half * s for v in values for s in scales)


def is_english(source: str) -> bool:
    """Whether a text has words that call for a translation."""
    return len(re.findall(r"\b[a-z]{2,}\b", plain(source))) >= 3


def is_chinese(source: str) -> bool:
    """Whether a text has a Chinese character."""
    return bool(re.search(f"[{HAN}]", plain(source)))
