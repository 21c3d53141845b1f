"Renders the whole book: reads the pages, numbers them, resolves references, writes the site."
import functools
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import panflute as pf

from . import checks, labels, page, pandoc, project, rendered, site, structure
from .page import Page
from .problems import Problem
from .project import Project

WORKERS = 2  # pages that are parsed or written at a time


class Book:
    "The pages of a book in reading order, rendered but not yet on disk."

    def __init__(self, root: Path):
        self.root = root
        self.project: Project = project.load(root)
        self.problems: list[Problem] = list(self.project.problems)
        self.bibliography = [root / b for b in self.project.bibliography if (root / b).is_file()]
        self.keys = pandoc.keys_of(self.bibliography)
        self.labels = labels.Labels()
        self.pages: list[Page] = []
        self.files: dict[str, bytes] = {}
        self.references = ""  # address of the page with the list of works

    def render(self) -> "Book":
        "Everything up to the files of the site."
        listed = [e for e in self.project.entries if (self.root / e.source).is_file()]
        with ThreadPoolExecutor(WORKERS) as pool:
            self.pages = list(pool.map(functools.partial(page.read, self.project), listed))
            self.number()
            by_source = {p.source: p for p in self.pages}
            for p in self.pages:
                structure_of(p)
            for p in self.pages:
                labels.resolve(p, self.labels, by_source, self.keys)
            cited = set().union(*(p.cited for p in self.pages)) & self.keys
            self.references = next((p.output for p in self.pages if has_references(p)), "")
            list(pool.map(functools.partial(self.write, cited=cited), self.pages))
        self.files = site.files(self.project, self.pages)
        self.collect()
        return self

    def collect(self) -> None:
        "All problems; what the source checks have said already is not said twice."
        self.problems += checks.check_book(self.root)
        known = {(p.file, p.message) for p in self.problems}
        late = [x for p in self.pages for x in p.problems]
        late += rendered.check(self.pages, self.files, self.root)
        late += [Problem(project.FILE, "", f"key {k} is not supported") for k in self.unused()]
        if self.bibliography and not self.references:
            late.append(Problem(project.FILE, "", "no page holds the list of works, ::: {#refs}"))
        self.problems += [x for x in late if (x.file, x.message) not in known]

    def unused(self) -> list[str]:
        "Keys of `_quarto.yml` that are not ours and that no page prints with {{< meta key >}}."
        named = {m for p in self.pages for c in p.cells
                 for m in re.findall(r"\{\{<\s*meta\s+([\w-]+)", c.source)}
        return [k for k in self.project.metadata if k not in project.TOP and k not in named]

    def number(self) -> None:
        "Chapter numbers, and the labels of chapters."
        numbers = project.chapter_numbers([(p.entry, p.numbered) for p in self.pages])
        for p, number in zip(self.pages, numbers, strict=True):
            p.number, p.labels = number, self.labels
            if number and p.title_id.startswith("sec-"):
                word = "Appendix" if p.entry.role == "appendix" else "Chapter"
                p.label(p.title_id, word, number, anchor=False)

    def write(self, p: Page, cited: set[str]) -> None:
        "One page to HTML; the page of references lists every work cited in the book."
        is_list = has_references(p)
        if is_list:
            works = [pf.Citation(key) for key in sorted(cited)]
            p.doc.metadata["nocite"] = pf.MetaInlines(pf.Cite(citations=works))
        home = self.references
        address = "" if is_list or not home else labels.relative(home, p.output)
        out, warnings = pandoc.write(site.assemble(p), self.bibliography, address)
        p.html = site.split(out)
        for w in warnings:
            if "Citeproc: citation" not in w:
                p.problem(f"pandoc: {w}", formula_of(w))


def structure_of(p: Page) -> None:
    p.doc.content = structure.convert(p, p.doc.content)


def has_references(p: Page) -> bool:
    return any(isinstance(b, pf.Div) and b.identifier == "refs" for b in p.doc.content)


def formula_of(warning: str) -> str:
    "The part of pandoc's message that stands in the source."
    mark = "Could not convert TeX math "
    return warning.removeprefix(mark).split(", rendering")[0][:20] if mark in warning else ""


def save(book: Book, out: Path) -> None:
    "Writes the site beside `out` first, then puts it in its place."
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".book-") as scratch:
        fresh = Path(scratch) / "site"
        for name, data in book.files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        fresh.chmod(0o755)
        if out.exists():
            out.rename(Path(scratch) / "old")
        shutil.move(fresh, out)
