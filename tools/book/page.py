"One page of the book on its way from its source to HTML."
import json
from dataclasses import dataclass, field
from pathlib import Path

import panflute as pf

from . import pandoc, sources
from .labels import Labels, Target
from .problems import Problem
from .project import Entry, Project

DEEPEST = 4  # sections are numbered to this level, as Quarto does


@dataclass
class Page:
    "A page: its cells, its tree, its numbers, and what is wrong with it."

    project: Project
    entry: Entry
    cells: list[sources.Cell] = field(default_factory=list)
    doc: pf.Doc = None
    number: str | None = None
    title: list = field(default_factory=list)  # inlines
    title_id: str = ""
    numbered: bool = True
    toc: list = field(default_factory=list)  # (level, id, number, inlines)
    toc_depth: int = 3
    cited: set = field(default_factory=set)
    texts: dict = field(default_factory=dict)  # Markdown of captions -> inlines
    images: dict = field(default_factory=dict)  # file name -> bytes, from stored outputs
    counts: dict = field(default_factory=dict)
    levels: list = field(default_factory=lambda: [0] * (DEEPEST + 1))
    labels: Labels = None
    problems: list[Problem] = field(default_factory=list)
    html: dict = field(default_factory=dict)  # title, toc, body, footer

    @property
    def source(self) -> str:
        return self.entry.source

    @property
    def output(self) -> str:
        return self.entry.output

    @property
    def path(self) -> Path:
        return self.project.root / self.source

    def problem(self, message: str, needle: str = "") -> None:
        "Notes a problem at the first line that holds `needle`."
        self.problems.append(Problem(self.source, self.find(needle) if needle else "", message))

    def find(self, needle: str) -> str:
        for cell in self.cells:
            at = cell.source.find(needle)
            if at >= 0:
                return cell.place(cell.source.count("\n", 0, at))
        return ""

    # -- numbers and labels
    def next_number(self, kind: str) -> str:
        "2.3 for the third of its kind in chapter 2; 3 on a page without a number."
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{self.number}.{self.counts[kind]}" if self.number else str(self.counts[kind])

    def label(self, label: str, word: str, number: str, anchor: bool = True) -> None:
        target = Target(self, word, number, f"#{label}" if anchor else "", self.find(label))
        self.labels.add(label, target)

    def section_number(self, level: int) -> str:
        "The number of the next heading of this level; a level that was skipped counts as 0."
        self.levels[level] += 1
        self.levels[level + 1:] = [0] * (DEEPEST - level)
        return ".".join([self.number, *(str(n) for n in self.levels[2:level + 1])])

    def long_title(self) -> list:
        "2 Dynamical systems, or Appendix A — Notation."
        if not self.number:
            return copies(self.title)
        mark = f"Appendix {self.number} —" if self.entry.role == "appendix" else self.number
        return [pf.Str(mark), pf.Space, *copies(self.title)]

    def inlines(self, text: str) -> list:
        "A caption or title as parsed Markdown."
        return copies(self.texts[str(text)]) if text else []


def copies(inlines: list) -> list:
    "Fresh elements: one element can stand in one place of a tree only."
    texts = (json.dumps(x.to_json()) for x in inlines)
    return [json.loads(t, object_hook=pf.elements.from_json) for t in texts]


def read(project: Project, entry: Entry) -> Page:
    "Cells, front matter and tree of one page; title and number are not known yet."
    page = Page(project, entry)
    page.cells = sources.read_cells(page.path)
    front = sources.front_matter(page.cells)
    page.toc_depth = front.get("toc-depth", project.toc_depth)
    metadata = {**project.metadata, **front}
    for cell in page.cells:
        if cell.kind == "markdown":
            cell.text = sources.expand(cell.source, page.path.parent, metadata,
                                       project.variables, page.problem)
    page.doc, warnings = pandoc.parse(sources.markdown(page.cells))
    for w in warnings:
        page.problem(f"pandoc: {w}")
    wanted = sorted(caption_texts(page))
    page.texts = dict(zip(wanted, pandoc.parse_inlines(wanted), strict=True))
    find_title(page)
    return page


def caption_texts(page: Page) -> set[str]:
    "Everything outside the text that is Markdown itself: captions in options and attributes."
    found = set()
    for cell in page.cells:
        for key in ("fig-cap", "tbl-cap", "lst-cap", "fig-subcap", "tbl-subcap"):
            value = cell.options.get(key, [])
            found.update(map(str, value if isinstance(value, list) else [value]))
    def visit(element, doc):
        if isinstance(element, (pf.Div, pf.CodeBlock)):
            found.update(v for k, v in element.attributes.items()
                         if k in ("title", "name", "lst-cap"))
    page.doc.walk(visit)
    return found


def find_title(page: Page) -> None:
    "The first `#` heading; on all pages but the index it leaves the text."
    head = next((b for b in page.doc.content if isinstance(b, pf.Header) and b.level == 1), None)
    if head is None:
        page.problem("the page has no # heading")
        page.title = [pf.Str(page.path.stem)]
        return
    page.title, page.title_id = list(head.content), head.identifier
    page.numbered = "unnumbered" not in head.classes or page.path.suffix == ".ipynb"
    if page.entry.role != "index":
        page.doc.content = [b for b in page.doc.content if b is not head]
