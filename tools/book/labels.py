"Kinds of labelled things, their numbers, and the references to them."
import posixpath
from dataclasses import dataclass

import panflute as pf

KINDS = {
    "sec": "Section", "fig": "Figure", "tbl": "Table", "lst": "Listing", "eq": "Equation",
    "thm": "Theorem", "lem": "Lemma", "cor": "Corollary", "prp": "Proposition",
    "cnj": "Conjecture", "def": "Definition", "exm": "Example", "exr": "Exercise",
    "sol": "Solution", "rem": "Remark",
    "nte": "Note", "tip": "Tip", "wrn": "Warning", "cau": "Caution", "imp": "Important",
}  # fmt: skip
THEOREMS = {"thm", "lem", "cor", "prp", "cnj", "def", "exm", "exr", "sol", "rem"}
CALLOUTS = {"nte": "note", "tip": "tip", "wrn": "warning", "cau": "caution", "imp": "important"}


def kind_of(label: str) -> str | None:
    "The known prefix of a label or of a reference to it (`Fig-a` is `fig-a`)."
    prefix, dash, rest = label.partition("-")
    prefix = prefix[:1].lower() + prefix[1:]
    return prefix if dash and rest and prefix in KINDS else None


@dataclass
class Target:
    "Where a label stands and what a reference to it prints."

    page: object
    word: str  # Figure, Section, Chapter, Appendix
    number: str
    anchor: str  # "" for a chapter
    place: str = ""


class Labels:
    "All labels of the book."

    def __init__(self):
        self.targets: dict[str, Target] = {}

    def add(self, label: str, target: Target) -> None:
        if label in self.targets:
            first = self.targets[label]
            where = f"{first.page.source} {first.place}".strip()
            target.page.problem(f"label {label} is used twice, first in {where}", label)
        self.targets[label] = target

    def find(self, key: str) -> Target | None:
        return self.targets.get(key[:1].lower() + key[1:])


def relative(target: str, home: str) -> str:
    "Address of one page of the site as seen from another."
    return posixpath.relpath(target, posixpath.dirname(home) or ".")


def resolve(page, labels: Labels, pages: dict[str, object], keys: set[str]) -> None:
    "Turns references into links and links to sources into links to pages."
    def visit(element, doc):
        if isinstance(element, pf.Cite):
            return reference(element, page, labels, keys)
        if isinstance(element, pf.Link):
            element.url = page_address(element.url, page, pages)
    page.doc.walk(visit)
    page.title = list(pf.Plain(*page.title).walk(visit).content)


def reference(cite: pf.Cite, page, labels: Labels, keys: set[str]):
    "The links that stand for `[@fig-a; @fig-b]`; a citation of literature is left to citeproc."
    known = [kind_of(c.id) for c in cite.citations]
    if not any(known):
        for c in cite.citations:
            page.cited.add(c.id)
            if c.id not in keys:
                page.problem(f"no entry {c.id} in the bibliography", f"@{c.id}")
        return None
    if not all(known):
        page.problem("a reference and a citation stand in one bracket", f"@{cite.citations[0].id}")
        return None
    out = []
    for c in cite.citations:
        out += [pf.Str(","), pf.Space] if out else []
        out.append(link(c, page, labels))
    return out


def link(citation: pf.Citation, page, labels: Labels):
    "One printed reference."
    key = citation.id
    target = labels.find(key)
    if target is None:
        page.problem(f"reference @{key} points to no label", f"@{key}")
        return pf.Strong(pf.Str(f"?@{key}"))
    if pf.stringify(pf.Plain(*citation.suffix)).strip():
        page.problem(f"text after @{key} inside the brackets is lost", f"@{key}")
    other = target.page is not page
    address = (relative(target.page.output, page.output) if other else "") + target.anchor
    return pf.Link(*printed(citation, target, page), url=address or "#", classes=["xref"])


def printed(citation: pf.Citation, target: Target, page) -> list[pf.Inline]:
    "Figure 1.1, 1.1 or Fig. 1.1."
    if citation.mode == "SuppressAuthor":
        return [pf.Str(target.number)]
    if citation.prefix:
        return [*citation.prefix, pf.Str(f"\u00a0{target.number}")]
    if target.word in ("Chapter", "Appendix") and page.number is None:
        return target.page.long_title()
    return [pf.Str(f"{target.word}\u00a0{target.number}")]


def page_address(url: str, page, pages: dict[str, object]) -> str:
    "`02-systems.ipynb#sec-x` as the address of the page made from it."
    path, hash_, anchor = url.partition("#")
    if not path or ":" in path:
        return url
    source = posixpath.normpath(posixpath.join(posixpath.dirname(page.source), path))
    if source in pages:
        return relative(pages[source].output, page.output) + hash_ + anchor
    return url
