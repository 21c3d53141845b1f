"""Exercises of a chapter: stubs, checks, solutions, and the copy for students."""

import re
from collections.abc import Iterator

from . import notebook, outputs
from .notebook import Chapter

UNFINISHED: frozenset[str] = frozenset()  # numbers of chapters still without their exercises
CODED = 2  # at least
EXERCISES = (4, 8)

_OPENS = re.compile(r" {0,3}:{3,}\s*(\{.*\}|[^\s:{}]+)\s*:*\s*$")
_CLOSES = re.compile(r" {0,3}:{3,}\s*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_DIV = re.compile(r"^ {0,3}:{3,}\s*\{\s*#exr-([\w-]+)", re.M)


def marked_lines(source: str) -> Iterator[tuple[str, str | None]]:
    "Lines of Markdown with the attributes of the div each opens, `close`, or None."
    fence = None
    for line in source.split("\n"):
        mark = None
        if match := _FENCE.match(line):
            if fence is None:
                fence = match[1]
            elif match[1].startswith(fence):
                fence = None
        elif fence is None:
            if match := _OPENS.match(line):
                mark = match[1]
            elif _CLOSES.match(line):
                mark = "close"
        yield line, mark


def without_solutions(cells: list[dict]) -> list[dict]:
    "The cells without everything from a `.solution` callout's opening to its closing."
    kept, depth = [], 0
    for cell in cells:
        if cell["cell_type"] != "markdown":
            kept += [cell] if depth == 0 else []
            continue
        lines = []
        for line, mark in marked_lines(cell["source"]):
            if depth:
                depth += {None: 0, "close": -1}.get(mark, 1)
            elif mark and re.search(r"\.solution\b", mark):
                depth = 1
            else:
                lines.append(line)
        if len(lines) == cell["source"].count("\n") + 1:
            kept.append(cell)
        elif text := re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n"):
            kept.append(dict(cell, source=text))
    if depth:
        raise ValueError("a .solution callout is never closed")
    return kept


def _named(chapter: Chapter, key: str) -> dict[str, tuple[int, dict]]:
    return {
        notebook.directives(cell)[key]: (number, cell)
        for number, cell in chapter.code_cells()
        if key in notebook.directives(cell)
    }


def unexpected_checks(chapter: Chapter) -> list[tuple[int, str]]:
    "After a run: stubs that do not print `not yet`, solutions that do not print `right`."
    found = []
    for key, word in (("exercise", "not yet"), ("solution", "right")):
        for number, cell in chapter.code_cells():
            name = notebook.directives(cell).get(key)
            if name is None or not notebook.runs(cell):
                continue
            shown = outputs.texts(cell)
            if not any(re.search(rf"\b{word}\b", text, re.I) for text in shown):
                said = " ".join(" ".join(shown).split())[:80] or "nothing"
                found.append((number, f"{key} {name} shows {said!r}, expected {word!r}"))
    return found


def pairs(chapter: Chapter) -> list[tuple[int, str]]:
    "Stubs without solution, solutions without stub or outside their callout."
    found = []
    stubs, solutions = _named(chapter, "exercise"), _named(chapter, "solution")
    for key in ("exercise", "solution"):
        names = [notebook.directives(cell).get(key) for _, cell in chapter.code_cells()]
        for name in {n for n in names if n and names.count(n) > 1}:
            found.append((_named(chapter, key)[name][0], f"a second {key} {name}"))
    for name in stubs.keys() - solutions.keys():
        found.append((stubs[name][0], f"exercise {name} has no solution"))
    for name in solutions.keys() - stubs.keys():
        found.append((solutions[name][0], f"solution {name} has no exercise"))
    divs = {name for _, cell in chapter.markdown_cells() for name in _DIV.findall(cell["source"])}
    for name in stubs.keys() - divs:
        found.append((stubs[name][0], f"exercise {name} has no div `::: {{#exr-{name}}}`"))
    try:
        kept = [id(cell) for cell in without_solutions(chapter.cells)]
    except ValueError as error:
        return sorted(found + [(0, str(error))])
    for name, (number, cell) in solutions.items():
        if id(cell) in kept:
            found.append((number, f"solution {name} stands outside a .solution callout"))
    for name, (number, cell) in stubs.items():
        if id(cell) not in kept:
            found.append((number, f"exercise {name} stands inside a .solution callout"))
    return sorted(found)


def counts(chapter: Chapter) -> list[tuple[int, str]]:
    "A finished chapter has 4 to 8 exercises, two of them coded."
    found, least, most = [], *EXERCISES
    coded = len(_named(chapter, "exercise"))
    divs = sum(len(_DIV.findall(cell["source"])) for _, cell in chapter.markdown_cells())
    if coded < CODED:
        found.append((0, f"{coded} coded exercises, at least {CODED} expected"))
    if not least <= divs <= most:
        found.append((0, f"{divs} exercises, {least} to {most} expected"))
    return found


def student_copy(chapter: Chapter) -> Chapter:
    "The chapter without solutions and without outputs; hints and stubs stay."
    cells = []
    for cell in without_solutions(chapter.cells):
        if cell["cell_type"] == "code":
            cell = dict(cell, outputs=[], execution_count=None)
            if name := notebook.directives(cell).get("solution"):
                raise ValueError(f"{chapter.name}: solution {name} is outside a .solution callout")
        cells.append(cell)
    return Chapter(chapter.path, cells, chapter.rest, chapter.text)
