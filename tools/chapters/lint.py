"""Rules that a look at the source of a chapter can check.

A rule takes a chapter and gives (number of cell, text) pairs; cell 0 is the whole chapter."""

import ast
import re
from pathlib import Path

from . import compare, exercises, notebook, outline, outputs
from .notebook import Chapter

PACKAGE = "rnntext"
LINE = 100
CELL = 40
CODE_IN_A_ROW = 2
FRESH_WITHIN = 3
SPINE = (
    "What you will be able to do",
    "What goes wrong",
    "What it costs",
    "Summary",
    "Exercises",
    "Further reading",
)

Finding = tuple[int, str]


def sentence(chapter: Chapter, number: int, text: str) -> str:
    "`nbs/03-gradients.ipynb: cell 7 (1a2b3c4d) `first line`: text`."
    path = chapter.path
    path = path.relative_to(outline.ROOT) if path.is_relative_to(outline.ROOT) else path
    if number == 0:  # the chapter as a whole
        return f"{path}: {text}"
    return f"{path}: {notebook.place(number, chapter.cells[number - 1])}: {text}"


def _tree(cell: dict) -> ast.Module:
    "The cell's syntax tree; magics are skipped, what does not parse is empty."
    lines = notebook.code(cell).split("\n")
    if lines[0].startswith("%%"):
        return ast.Module([], [])
    try:
        return ast.parse("\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines))
    except SyntaxError:
        return ast.Module([], [])


def _imports(cell: dict) -> list[ast.Import | ast.ImportFrom]:
    return [n for n in ast.walk(_tree(cell)) if isinstance(n, ast.Import | ast.ImportFrom)]


def _is_set(cell: dict, key: str) -> bool:
    return notebook.directives(cell).get(key, "false") != "false"


def directive_form(chapter: Chapter) -> list[Finding]:
    return [
        (number, f"directive {line!r}, expected `#| key: value` on one line")
        for number, cell in chapter.code_cells()
        for line in notebook.directive_lines(cell)
        if not re.fullmatch(r"#\| [A-Za-z][\w-]*: \S.*", line)
    ]


def tolerances(chapter: Chapter) -> list[Finding]:
    found = []
    for number, cell in chapter.code_cells():
        try:
            compare.tolerance_of(cell)
        except ValueError as error:
            found.append((number, str(error)))
    return found


def starts_fresh(chapter: Chapter) -> list[Finding]:
    cells = chapter.code_cells()
    nodes = [list(ast.walk(_tree(cell))) for _, cell in cells]
    if any(isinstance(n, ast.FunctionDef) and n.name == "fresh" for n in sum(nodes, [])):
        return []  # chapter 00 has to write it first
    for node in sum(nodes[:FRESH_WITHIN], []):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "fresh":
            return []
    return [(0, f"none of the first {FRESH_WITHIN} code cells calls fresh()")] if cells else []


def no_cupy(chapter: Chapter) -> list[Finding]:
    if chapter.number == "00":
        return []
    found = []
    for number, cell in chapter.code_cells():
        names = []
        for node in ast.walk(_tree(cell)):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            elif isinstance(node, ast.Call) and node.args:
                called = ast.unparse(node.func).split(".")[-1]
                if called in ("import_module", "__import__"):
                    names += [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
        if any(str(name).split(".")[0] in ("cupy", "cupyx") for name in names):
            found.append((number, "imports cupy; only chapter 00 may"))
    return found


def no_star_imports(chapter: Chapter) -> list[Finding]:
    return [
        (number, f"exports `{ast.unparse(node)}`; name what is imported")
        for number, cell in chapter.code_cells()
        if _is_set(cell, "export") or _is_set(cell, "exports")
        for node in _imports(cell)
        if any(alias.name == "*" for alias in node.names)
    ]


def module_of(chapter: Chapter) -> str | None:
    "The module a chapter makes: its `default_exp`."
    for _, cell in chapter.code_cells():
        if name := notebook.directives(cell).get("default_exp"):
            return name.strip()
    return None


def _modules_used(cell: dict, known: dict[str, str]) -> list[str]:
    used = []
    for node in _imports(cell):
        if isinstance(node, ast.Import):
            names = [a.name.split(".") for a in node.names]
            used += [n[1] for n in names if n[0] == PACKAGE and len(n) > 1]
            continue
        parts = (node.module or "").split(".")
        if node.level == 1:
            parts = [PACKAGE, *(p for p in parts if p)]
        elif parts[0] != PACKAGE or node.level:
            continue
        if len(parts) > 1:
            used.append(parts[1])
        else:  # from rnntext import rnn
            used += [a.name for a in node.names if a.name in known]
    return used


def import_order(chapter: Chapter, modules: dict[str, str]) -> list[Finding]:
    """`modules` maps each module to the name of its chapter; names are in reading order.

    Chapter 00 comes before the pictures: there, cells of the page alone may draw with `plot`.
    """
    found = []
    for number, cell in chapter.code_cells():
        drawing = {"plot"} if not _is_set(cell, "export") else set()
        for module in set(_modules_used(cell, modules)) - drawing:
            if module not in modules:
                if not module.startswith("_"):
                    found.append((number, f"imports {PACKAGE}.{module}, which no chapter makes"))
            elif modules[module] >= chapter.name:
                found.append((number, f"imports {PACKAGE}.{module} of {modules[module]}"))
    return found


def sizes(chapter: Chapter) -> list[Finding]:
    found = []
    for number, cell in chapter.code_cells():
        lines = notebook.code(cell).split("\n")
        longest = max(map(len, lines))
        if longest > LINE:
            found.append((number, f"a line of {longest} characters, at most {LINE}"))
        length = len("".join(cell["source"]).split("\n"))  # directives count
        if length > CELL:
            found.append((number, f"{length} lines, at most {CELL}"))
    return found


def is_seen(cell: dict) -> bool:
    "True if the page shows the code unfolded."
    hidden = notebook.says(cell, "include", "false") or notebook.says(cell, "echo", "false")
    return bool(notebook.code(cell)) and not hidden and not notebook.says(cell, "code-fold", "true")


def unexplained(chapter: Chapter) -> list[Finding]:
    found, run = [], 0
    for number, cell in enumerate(chapter.cells, 1):
        if cell["cell_type"] == "markdown":
            run = 0
        elif cell["cell_type"] == "code" and is_seen(cell):
            run += 1
            if run == CODE_IN_A_ROW + 1:
                found.append(
                    (number, f"more than {CODE_IN_A_ROW} code cells in a row, unexplained")
                )
    return found


def figures_named(chapter: Chapter) -> list[Finding]:
    found = []
    for number, cell in chapter.code_cells():
        hidden = notebook.says(cell, "include", "false") or notebook.says(cell, "output", "false")
        if hidden or not outputs.images(cell):
            continue
        given = notebook.directives(cell)
        missing = [key for key in ("label", "fig-cap", "fig-alt") if not given.get(key)]
        if missing:
            found.append((number, f"shows a figure without {', '.join(missing)}"))
        elif not given["label"].startswith("fig-"):
            found.append((number, f"the label of a figure begins with fig-, got {given['label']}"))
    return found


def stored_outputs(chapter: Chapter) -> list[Finding]:
    return [(n, text) for n, cell in chapter.code_cells() for text in outputs.problems(cell)]


RULES = (
    directive_form,
    tolerances,
    starts_fresh,
    no_cupy,
    no_star_imports,
    sizes,
    unexplained,
    figures_named,
    stored_outputs,
    exercises.pairs,
)


def modules_of(chapters: list[Chapter]) -> dict[str, str]:
    found = {module_of(chapter): chapter.name for chapter in chapters}
    return {module.split(".")[0]: name for module, name in found.items() if module}


def lint_chapter(chapter: Chapter, modules: dict[str, str]) -> list[str]:
    "All findings in one chapter."
    found = [finding for rule in RULES for finding in rule(chapter)]
    found += import_order(chapter, modules)
    return [sentence(chapter, *finding) for finding in sorted(found)]


def lint(paths: list[Path], known: list[Path] | None = None) -> list[str]:
    "All findings in the chapters; `known` are the notebooks whose modules may be imported."
    modules = modules_of([notebook.read(path) for path in known or paths])
    return [text for path in paths for text in lint_chapter(notebook.read(path), modules)]


# Facts that are looked at, not enforced.


def headings(chapter: Chapter) -> list[str]:
    "The headings of a chapter, without their labels."
    found = []
    for _, cell in chapter.markdown_cells():
        fenced = False
        for line in cell["source"].split("\n"):
            fenced ^= line.lstrip().startswith(("```", "~~~"))
            if not fenced and (match := re.match(r"#{1,6}\s+(.*?)\s*(?:\{[^}]*\})?\s*#*$", line)):
                found.append(match[1])
    return found


def missing_spine(chapter: Chapter) -> list[str]:
    "Parts of a chapter's spine that have no heading."
    present = {heading.casefold() for heading in headings(chapter)}
    return [heading for heading in SPINE if heading.casefold() not in present]


_NOT_WORDS = re.compile(
    r"""^[ ]{0,3}(?P<f>`{3,}|~{3,}).*?^[ ]{0,3}(?P=f)[`~]*[ ]*$  # code
      | \$\$.*?\$\$ | \$[^$\n]+\$ | <!--.*?-->
      | ^[ ]{0,3}:{3,}.*?$ | \{[^}\n]*\}
      | `[^`\n]*` | \]\([^)\n]*\) | \[-?@[^\]\n]*\] | @[\w:.-]+""",
    re.X | re.M | re.S,
)


def words(chapter: Chapter) -> int:
    "Words of the Markdown, without code, formulas, labels and citations."
    text = "\n\n".join(cell["source"] for _, cell in chapter.markdown_cells())
    return len(re.findall(r"[^\W\d_][\w'’-]*", _NOT_WORDS.sub(" ", text)))
