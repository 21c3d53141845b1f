"""Reads `_quarto.yml`: which pages the book has, in which order, with which numbers.

Keys that change only Quarto's looks are accepted and have no effect here; a key that is in no list
below is refused by name, so that the two renderers cannot drift apart unseen.
"""
import string
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .problems import BookError, Problem

FILE = "_quarto.yml"
BOOK = {"title", "subtitle", "author", "chapters", "appendices", "page-footer"}
BOOK_LOOKS = {"favicon", "search", "sidebar", "repo-url", "repo-actions", "description"}
HTML = {"toc", "toc-depth", "html-math-method", "code-fold", "number-depth"}
HTML_LOOKS = {
    "theme", "css", "highlight-style", "syntax-highlighting", "code-copy", "code-overflow",
    "code-link", "smooth-scroll", "link-external-newwindow", "grid", "lang", "toc-location",
    "respect-user-color-scheme", "fig-align", "mainfont",
}  # fmt: skip
TOP = {"project", "book", "bibliography", "execute", "format", "lang"}
PAGE = {"toc-depth", "lang", "kernelspec", "jupyter"}  # front matter of one page


@dataclass
class Entry:
    "One page of the book as `_quarto.yml` lists it."

    source: str  # path from the root, with slashes
    role: str  # index, chapter, part, appendix
    part: str | None = None  # title of the part, or source of the part's page

    @property
    def output(self) -> str:
        return str(Path(self.source).with_suffix(".html").as_posix())


@dataclass
class Project:
    "The whole of `_quarto.yml`, with what is wrong in it."

    root: Path
    title: str
    subtitle: str | None
    authors: list[str]
    entries: list[Entry]
    bibliography: list[str]
    footer: str | None
    toc_depth: int
    code_fold: object
    metadata: dict  # everything, for {{< meta key >}}
    variables: dict  # _variables.yml, for {{< var key >}}
    problems: list[Problem] = field(default_factory=list)


def load(root: Path) -> Project:
    "The project in `root`; raises BookError when there is none."
    path = root / FILE
    if not path.exists():
        raise BookError(f"{root}: no {FILE} there")
    data = read_yaml(path)
    book, html = data.get("book") or {}, (data.get("format") or {}).get("html") or {}
    project = Project(
        root=root, title=book.get("title") or "", subtitle=book.get("subtitle"),
        authors=as_list(book.get("author")), entries=list(entries(book)),
        bibliography=as_list(data.get("bibliography")), footer=book.get("page-footer"),
        toc_depth=html.get("toc-depth", 3), code_fold=html.get("code-fold", False), metadata=data,
        variables=read_yaml(root / "_variables.yml") if (root / "_variables.yml").exists() else {})
    project.problems = [Problem(FILE, "", m) for m in refusals(project)]
    return project


def read_yaml(path: Path) -> dict:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise BookError(f"{path.name}: {error}") from error


def as_list(x) -> list:
    return [] if x is None else list(x) if isinstance(x, list) else [x]


def entries(book: dict):
    "Every page in reading order."
    for item in as_list(book.get("chapters")):
        if isinstance(item, dict) and "part" in item:
            part = item["part"]
            if Path(part).suffix in (".qmd", ".ipynb"):
                yield Entry(part, "part", part)
            for source in as_list(item.get("chapters")):
                yield Entry(str(source), "chapter", part)
        else:
            yield Entry(str(item), "index" if Path(str(item)).stem == "index" else "chapter")
    for source in as_list(book.get("appendices")):
        yield Entry(str(source), "appendix", "Appendices")


def refusals(project: Project):
    "What this renderer does not know in `_quarto.yml`, one sentence each."
    data = project.metadata
    book, formats = data.get("book") or {}, data.get("format") or {}
    html = formats.get("html") or {}
    kind = (data.get("project") or {}).get("type")
    if kind != "book":
        yield f"project: type: {kind} is not supported, only book"
    yield from unknown("project", data.get("project"), {"type", "output-dir", "render"})
    yield from unknown("book", book, BOOK | BOOK_LOOKS)
    if not isinstance(book.get("page-footer", ""), str):
        yield "book: page-footer must be one text"
    yield from unknown("format", formats, {"html"})
    yield from unknown("format: html", html, HTML | HTML_LOOKS)
    yield from unknown("execute", data.get("execute"), {"enabled", "freeze"})
    if html.get("html-math-method", "mathml") != "mathml":
        yield "format: html: html-math-method must be mathml"
    for entry in project.entries:
        if not (project.root / entry.source).is_file():
            yield f"{entry.source} is listed but there is no such file"
    for name in project.bibliography:
        if not (project.root / name).is_file():
            yield f"bibliography {name} is not there"


def unknown(where: str, given, known: set):
    for key in given or {}:
        if key not in known:
            yield f"{where}: {key} is not supported"


def chapter_numbers(numbered: list[tuple[Entry, bool]]) -> list[str | None]:
    "The printed number of each page: 1, 2, ... and A, B, ...; None where it has none."
    out, chapters, appendices = [], 0, 0
    for entry, has_number in numbered:
        if entry.role == "appendix":
            out.append(string.ascii_uppercase[appendices])
            appendices += 1
        elif entry.role == "chapter" and has_number:
            chapters += 1
            out.append(str(chapters))
        else:
            out.append(None)
    return out
