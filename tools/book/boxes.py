"Callouts, theorems and exercises, tabs."
import itertools

import panflute as pf

from . import structure
from .labels import CALLOUTS, KINDS, THEOREMS
from .page import Page

WORDS = {"note": "Note", "tip": "Tip", "warning": "Warning", "caution": "Caution",
         "important": "Important"}
UNLABELLED = {"proof": "Proof", "remark": "Remark", "solution": "Solution"}
CALLOUT_OPTIONS = {"title", "collapse", "icon", "appearance"}


def callout_kind(div: pf.Div) -> str | None:
    return next((k for k in WORDS if f"callout-{k}" in div.classes), None)


def theorem_kind(div: pf.Div) -> str | None:
    "Prefix of a theorem's label, or the class of one that has no number."
    prefix = div.identifier.partition("-")[0]
    if prefix in THEOREMS:
        return prefix
    return next((k for k in UNLABELLED if k in div.classes), None)


def own_title(page: Page, div: pf.Div, attribute: str) -> tuple[list, list]:
    "(title, remaining blocks) of a box: its attribute, else its first block if that is a heading."
    blocks = list(div.content)
    if attribute in div.attributes:
        title = page.inlines(div.attributes[attribute])
    elif blocks and isinstance(blocks[0], pf.Header):
        title = list(blocks.pop(0).content)
    else:
        title = []
    for head in blocks:
        if isinstance(head, pf.Header):
            page.problem("a heading inside a box becomes a section of the chapter",
                         pf.stringify(head).strip())
    return title, blocks


def callout(page: Page, div: pf.Div) -> list[pf.Block]:
    "A note, tip, warning, ...; `details` if it can be folded."
    for name in set(div.attributes) - CALLOUT_OPTIONS:
        page.problem(f"callout option {name} is not supported", name)
    kind, look = callout_kind(div), div.attributes.get("appearance", "default")
    title, blocks = own_title(page, div, "title")
    title = callout_title(page, div, kind, title, look)
    classes = [*div.classes, "callout"]
    if look in ("simple", "minimal"):
        classes.append("callout-simple")
    if look == "minimal" or div.attributes.get("icon") == "false":
        classes.append("no-icon")
    body = structure.wrap("div", structure.convert(page, blocks), class_="callout-body")
    collapse = div.attributes.get("collapse")
    inside = "div" if collapse is None else "summary"
    head = structure.wrap(inside, [pf.Plain(*title)], class_="callout-title") if title else []
    common = {"class_": " ".join(classes), "id": div.identifier}
    if collapse is None:
        return structure.wrap("div", [*head, *body], role="note", **common)
    return structure.wrap("details", [*head, *body], open=collapse == "false", **common)


def callout_title(page: Page, div: pf.Div, kind: str, title: list, look: str) -> list:
    "Note 2.1: Read this."
    prefix = div.identifier.partition("-")[0]
    if prefix not in CALLOUTS:
        return title or ([] if look == "minimal" else [pf.Str(WORDS[kind])])
    number = page.next_number(prefix)
    page.label(div.identifier, KINDS[prefix], number)
    mark = f"{KINDS[prefix]}\u00a0{number}"
    return [pf.Str(mark + ":"), pf.Space, *title] if title else [pf.Str(mark)]


def theorem(page: Page, div: pf.Div) -> list[pf.Block]:
    "Theorem 2.1 (Contraction), Exercise 2.2, Proof."
    kind = theorem_kind(div)
    name, blocks = own_title(page, div, "name")
    if kind in UNLABELLED:
        head = [pf.Str(UNLABELLED[kind])]
    else:
        number = page.next_number(kind)
        page.label(div.identifier, KINDS[kind], number)
        head = [pf.Str(f"{KINDS[kind]}\u00a0{number}")]
    if name:
        head += [pf.Space, pf.Str("("), *name, pf.Str(")")]
    if kind in UNLABELLED or kind in ("sol", "rem"):
        head.append(pf.Str("."))
    title = pf.Span(*head, classes=["theorem-title"])
    if blocks and isinstance(blocks[0], pf.Para):
        blocks[0].content = [title, pf.Space, *blocks[0].content]
    else:
        blocks.insert(0, pf.Para(title))
    content = structure.convert(page, blocks)
    classes = " ".join(["theorem", f"theorem-{kind}", *div.classes])
    return structure.wrap("div", content, class_=classes, id=div.identifier)


def tabset(page: Page, div: pf.Div) -> list[pf.Block]:
    "Tabs: each heading of the level of the first one begins a tab."
    blocks = list(div.content)
    if not blocks or not isinstance(blocks[0], pf.Header):
        page.problem("a tabset must begin with a heading", "panel-tabset")
        return structure.convert(page, blocks)
    level = blocks[0].level
    starts = [i for i, b in enumerate(blocks) if isinstance(b, pf.Header) and b.level == level]
    ends = [*starts[1:], len(blocks)]
    page.counts["tabset"] = page.counts.get("tabset", 0) + 1
    name = f"tabset-{page.counts['tabset']}"
    heads, panes = [], []
    for i, (start, end) in enumerate(itertools.zip_longest(starts, ends), 1):
        tab = {"id": f"{name}-tab-{i}", "aria_controls": f"{name}-{i}", "type": "button",
               "aria_selected": "true" if i == 1 else "false"}
        heads += structure.wrap("button", [pf.Plain(*blocks[start].content)], role="tab", **tab)
        pane = structure.convert(page, blocks[start + 1:end])
        panes += structure.wrap("div", pane, id=f"{name}-{i}", role="tabpanel", tabindex="0",
                                aria_labelledby=f"{name}-tab-{i}")
    head = structure.wrap("div", heads, role="tablist")
    return structure.wrap("div", [*head, *panes], class_="tabset",
                          data_group=div.attributes.get("group"))
