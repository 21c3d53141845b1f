"The frame around the text: navigation, table of contents, assets, search."
import html
import json
import posixpath
import re
import string
from importlib import resources
from pathlib import Path

import panflute as pf

from . import rendered
from .labels import relative
from .page import Page
from .problems import BookError
from .project import Project
from .structure import raw

ASSETS = Path(__file__).parent / "assets"
OWN = "book-assets"  # folder of the site that holds styles and scripts
LICENCE = (
    'Text <a rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">CC BY-SA 4.0</a>'
    ', code <a rel="license" href="https://www.apache.org/licenses/LICENSE-2.0">Apache-2.0</a>')
SECTIONS = ("title", "toc", "body")


# -- the tree that pandoc writes
def assemble(page: Page) -> pf.Doc:
    "Title, table of contents and text as one document, with marks between them."
    parts = {"title": [pf.Plain(*page.title)], "toc": contents(page), "body": page.doc.content}
    page.doc.content = [b for name in SECTIONS for b in (raw(f"<!--{name}-->"), *parts[name])]
    return page.doc


def split(text: str) -> dict[str, str]:
    "The parts that `assemble` put together, as HTML."
    pieces = re.split("|".join(f"<!--{name}-->" for name in SECTIONS), text)
    return dict(zip(SECTIONS, (p.strip() for p in pieces[1:]), strict=True))


def contents(page: Page) -> list[pf.Block]:
    "The table of contents as nested lists of links."
    return nest([x for x in page.toc if x[0] <= page.toc_depth])


def nest(items: list) -> list[pf.Block]:
    if not items:
        return []
    top, groups = min(x[0] for x in items), []
    for item in items:
        if item[0] == top or not groups:
            groups.append([item])
        else:
            groups[-1].append(item)
    return [pf.BulletList(*(pf.ListItem(entry(g[0]), *nest(g[1:])) for g in groups))]


def entry(item: tuple) -> pf.Plain:
    _, anchor, number, words = item
    mark = [pf.Span(pf.Str(number), classes=["secno"]), pf.Space] if number else []
    return pf.Plain(pf.Link(*mark, *words, url=f"#{anchor}"))


# -- the frame
def files(project: Project, pages: list[Page]) -> dict[str, bytes]:
    "Every file of the site."
    template = string.Template((ASSETS / "page.html").read_text(encoding="utf-8"))
    found = {f"{OWN}/{name}": (ASSETS / name).read_bytes()
             for name in ("book.css", "book.js", "icon.svg")}
    found[f"{OWN}/elasticlunr.min.js"] = search_library()
    index = json.dumps(search_index(pages), ensure_ascii=False, separators=(",", ":"))
    found[f"{OWN}/search-index.js"] = f"window.bookIndex={index};\n".encode()
    for i, page in enumerate(pages):
        around = (pages[i - 1] if i else None, pages[i + 1] if i + 1 < len(pages) else None)
        found[page.output] = frame(template, project, pages, page, around).encode()
        folder = posixpath.dirname(page.output)
        for name, data in page.images.items():
            found[posixpath.join(folder, name)] = data
    found.update(rendered.local_files(pages, project.root, found))
    if pages and "index.html" not in found:
        found["index.html"] = redirect(pages[0].output)
    return found


def frame(template: string.Template, project: Project, pages: list, page: Page, around) -> str:
    "One whole page."
    index = page.entry.role == "index"
    title = "" if index else rendered.text(page_number(page) + page.html["title"]) + " – "
    head = book_title(project) if index else page_title(page, part_name(pages, page))
    return template.substitute(
        window=html.escape(title + project.title), assets=relative(OWN, page.output),
        root=relative(".", page.output) + "/", book=html.escape(project.title), head=head,
        home=relative(pages[0].output, page.output), sidebar=sidebar(pages, page),
        body=page.html["body"], toc=toc(page), previous=neighbour(around[0], page, "prev"),
        next=neighbour(around[1], page, "next"),
        footer=html.escape(project.footer) if project.footer else LICENCE)


def book_title(project: Project) -> str:
    lines = [f'<h1 class="title">{html.escape(project.title)}</h1>']
    if project.subtitle:
        lines.append(f'<p class="subtitle">{html.escape(project.subtitle)}</p>')
    lines += [f'<p class="author">{html.escape(a)}</p>' for a in project.authors]
    return "\n".join(lines)


def page_title(page: Page, part: str) -> str:
    title = f'<h1 class="title" id="{page.title_id}">{page_number(page)}{page.html["title"]}</h1>'
    return (f'<p class="part-name">{part}</p>' if part else "") + title


def page_number(page: Page) -> str:
    if page.entry.role == "appendix":
        return f"Appendix {page.number} — "
    return f'<span class="chapter-number">{page.number}</span> ' if page.number else ""


def part_name(pages: list[Page], page: Page) -> str:
    "The part that a chapter stands in, printed above its title."
    if page.entry.role != "chapter" or not page.entry.part:
        return ""
    own = next((p for p in pages if p.source == page.entry.part), None)
    return own.html["title"] if own else html.escape(page.entry.part)


def short_title(page: Page) -> str:
    "1 Sequences, A Notation."
    number = f'<span class="chapter-number">{page.number}</span> ' if page.number else ""
    return number + page.html["title"]


def sidebar(pages: list[Page], page: Page) -> str:
    "Parts and chapters as nested lists."
    out, part = ["<ul>"], None
    for p in pages:
        if p.entry.part != part:
            out.append("</ul></li>" if part else "")
            part = p.entry.part
            if part and p.entry.role != "part":
                out.append(f'<li class="part"><span>{html.escape(part)}</span><ul>')
        if p.entry.role == "part":
            out.append(f'<li class="part">{sidebar_link(p, page)}<ul>')
        else:
            out.append(f"<li>{sidebar_link(p, page)}</li>")
    return "\n".join([*out, "</ul></li>" if part else "", "</ul>"])


def sidebar_link(target: Page, page: Page) -> str:
    current = ' aria-current="page"' if target is page else ""
    address = relative(target.output, page.output)
    return f'<a href="{address}"{current}>{short_title(target)}</a>'


def toc(page: Page) -> str:
    if not page.html["toc"]:
        return ""
    return ('<nav class="toc" aria-label="On this page"><details open>'
            f'<summary>On this page</summary>{page.html["toc"]}</details></nav>')


def neighbour(target: Page | None, page: Page, rel: str) -> str:
    if target is None:
        return "<span></span>"
    address = relative(target.output, page.output)
    return f'<a rel="{rel}" href="{address}">{short_title(target)}</a>'


def redirect(target: str) -> bytes:
    return f'<!doctype html><meta http-equiv="refresh" content="0; url={target}">'.encode()


# -- search
def search_library() -> bytes:
    "elasticlunr, which pdoc carries."
    path = resources.files("pdoc") / "templates" / "resources" / "elasticlunr.min.js"
    if not path.is_file():
        raise BookError("pdoc no longer carries elasticlunr.min.js; search needs it")
    return path.read_bytes()


def search_index(pages: list[Page]) -> list[list[str]]:
    "[address, chapter, section, text] of every section."
    found = []
    for page in pages:
        chapter = rendered.text(short_title(page))
        for anchor, title, words in rendered.sections(page.html["body"]):
            address = page.output + (f"#{anchor}" if anchor else "")
            found.append([address, chapter, title, words])
    return found
