"""Looks in the sources for what Quarto accepts and prints wrongly, or what stops nbdev.

`check_page(path)` and `check_book(root)` need no pandoc; every check is a function of one cell that
yields (line, message), so a test can call it alone.
"""
import re
from collections.abc import Iterator
from pathlib import Path

from . import cell_checks, project, prose_checks
from .labels import KINDS
from .problems import Problem
from .sources import Cell, front_matter, read_cells, without_code

LABEL = re.compile(rf"\{{[^{{}}]*?#((?:{'|'.join(KINDS)})-[\w-]+)")


def check_book(root: Path) -> list[Problem]:
    "Problems of every page that `_quarto.yml` lists, and labels that two pages share."
    listed = project.load(Path(root))
    found, seen = [], {}
    for entry in listed.entries:
        path = listed.root / entry.source
        if not path.is_file():
            continue
        found += check_page(path, entry.source)
        for label, place in labels_of(read_cells(path)):
            if label in seen:
                found.append(Problem(entry.source, place,
                                     f"label {label} is used twice, first in {seen[label]}"))
            seen.setdefault(label, f"{entry.source} {place}")
    return found


def check_page(path: Path, name: str = "") -> list[Problem]:
    "Problems of one notebook or `.qmd` page."
    path = Path(path)
    name, cells = name or path.name, read_cells(path)
    found = [p for cell in cells for p in check_cell(cell, name)]
    for check in PAGE_CHECKS:
        found += [Problem(name, place, message) for place, message in check(cells, path)]
    for cell in cells:
        for file in re.findall(r"\{\{<\s*include\s+(\S+)\s*>\}\}", cell.source):
            if (path.parent / file).is_file():
                text = (path.parent / file).read_text(encoding="utf-8")
                found += check_cell(Cell("markdown", text, 0), f"{name} includes {file}")
    return found


def check_cell(cell: Cell, name: str) -> list[Problem]:
    "Problems of one cell."
    checks = {"markdown": prose_checks.CHECKS, "code": cell_checks.CHECKS}.get(cell.kind, [])
    return [Problem(name, cell.place(line), m) for check in checks for line, m in check(cell)]


def labels_of(cells: list[Cell]) -> list[tuple[str, str]]:
    "(label, place) of everything that a reference can name."
    found = []
    for cell in cells:
        if cell.kind == "markdown":
            text = without_code(cell.source, fences=True)
            found += [(m.group(1), cell.place(text.count("\n", 0, m.start())))
                      for m in LABEL.finditer(text)]
        for key in ("label", "lst-label"):
            if key in cell.options:
                found.append((str(cell.options[key]), cell.place()))
    return found


# -- checks of a whole page
def one_title(cells: list[Cell], path: Path) -> Iterator[tuple[str, str]]:
    "A notebook has one # heading, its first line of text, and no title elsewhere."
    heads = []
    for cell in cells:
        if cell.kind == "markdown":
            for i, line in enumerate(without_code(cell.source).split("\n")):
                if re.match(r"# \S", line):
                    heads.append((cell.place(i), line))
    if not heads:
        yield "", "the page has no # heading"
    for place, _ in heads[1:]:
        yield place, "a second # heading makes a second chapter in Quarto"
    if heads and path.suffix == ".ipynb" and ".unnumbered" in heads[0][1]:
        yield heads[0][0], "Quarto ignores .unnumbered on a notebook's title; use a .qmd page"
    if heads and re.search(r"(?<![\w\\])@[\w-]", heads[0][1]):
        yield heads[0][0], "a citation in a chapter's title breaks its links"


def page_options(cells: list[Cell], path: Path) -> Iterator[tuple[str, str]]:
    "Front matter holds no title, and only keys that are known or that `{{< meta >}}` names."
    used = set()
    for cell in cells:
        used.update(re.findall(r"\{\{<\s*meta\s+(\w[\w-]*)", cell.source))
    for key in front_matter(cells):
        if key == "title":
            yield "", "the title is the # heading; a title in the front matter counts twice"
        elif key not in project.PAGE and key not in used:
            yield "", f"front matter: {key} is not supported"


def footnotes(cells: list[Cell], path: Path) -> Iterator[tuple[str, str]]:
    "Every footnote mark has one note."
    marks, notes = {}, {}
    for cell in cells:
        if cell.kind != "markdown":
            continue
        for i, line in enumerate(without_code(cell.source).split("\n")):
            m = re.match(r" {0,3}\[\^([^\]\s]+)\]:", line)
            if m:
                notes.setdefault(m.group(1), []).append(cell.place(i))
                line = line[m.end():]
            for key in re.findall(r"\[\^([^\]\s]+)\]", line):
                marks.setdefault(key, cell.place(i))
    for key in marks.keys() - notes.keys():
        yield marks[key], f"footnote [^{key}] is not defined"
    for key in notes.keys() - marks.keys():
        yield notes[key][0], f"footnote [^{key}] is never referred to"
    for key, places in notes.items():
        if len(places) > 1:
            yield places[1], f"footnote [^{key}] is defined twice"


def divisions(cells: list[Cell], path: Path) -> Iterator[tuple[str, str]]:
    "Every `:::` that opens is closed, on the same page."
    opened = []
    for cell in cells:
        if cell.kind != "markdown":
            continue
        for i, line in enumerate(without_code(cell.source).split("\n")):
            m = re.match(r" {0,3}:{3,}(.*)$", line)
            if m and m.group(1).strip(" :"):
                opened.append(cell.place(i))
            elif m and opened:
                opened.pop()
            elif m:
                yield cell.place(i), "::: closes nothing"
    for place in opened:
        yield place, "::: is never closed"


PAGE_CHECKS = [one_title, page_options, footnotes, divisions]
