"""Turns the tree that pandoc parsed into the tree that it writes: numbers, captions, callouts.

Everything is done in one walk in the order of the page, so that numbers come out right. HTML that
pandoc does not know (`details`, tabs) is written as raw blocks around the parsed content.
"""
import html

import panflute as pf

from . import boxes, cells, floats
from .page import DEEPEST, Page, copies

REFUSED = {
    "content-visible", "content-hidden", "incremental", "nonincremental", "panel-fill",
    "panel-center", "panel-sidebar", "panel-input", "column-body", "column-body-outset",
    "column-page-inset", "column-screen", "column-screen-inset", "grid", "hidden", "landscape",
}  # fmt: skip


def convert(page: Page, blocks) -> list[pf.Block]:
    "All blocks, each replaced by what is printed for it."
    return [new for block in list(blocks) for new in convert_one(page, block)]


def convert_one(page: Page, block: pf.Block) -> list[pf.Block]:
    if isinstance(block, pf.Header):
        return [heading(page, block)]
    if isinstance(block, (pf.Para, pf.Plain)):
        return paragraph(page, block)
    if isinstance(block, pf.Div):
        return division(page, block)
    if isinstance(block, pf.Figure):
        return floats.markdown_figure(page, block)
    if isinstance(block, pf.Table):
        return floats.markdown_table(page, block)
    if isinstance(block, pf.CodeBlock):
        return code_block(page, block)
    for part in nested(block):
        part.content = convert(page, part.content)
    return [block]


def nested(block: pf.Block) -> list:
    "The parts of a list or a quotation that hold blocks."
    if isinstance(block, (pf.BulletList, pf.OrderedList)):
        return list(block.content)
    if isinstance(block, pf.DefinitionList):
        return [d for item in block.content for d in item.definitions]
    return [block] if isinstance(block, pf.BlockQuote) else []


def raw(text: str) -> pf.RawBlock:
    return pf.RawBlock(text, format="html")


def wrap(tag: str, blocks: list, **attributes) -> list[pf.Block]:
    "Blocks between an opening and a closing tag; `class_` is `class`, True is a bare attribute."
    parts = [tag]
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(name)
        elif value:
            parts.append(f'{name}="{html.escape(str(value))}"')
    return [raw(f"<{' '.join(parts)}>"), *blocks, raw(f"</{tag}>")]


def heading(page: Page, head: pf.Header) -> pf.Header:
    "Numbers a section and notes it for the table of contents."
    number = None
    if page.number and 1 < head.level <= DEEPEST and "unnumbered" not in head.classes:
        number = page.section_number(head.level)
        if head.identifier.startswith("sec-"):
            page.label(head.identifier, "Section", number)
    if "unlisted" not in head.classes:
        words = [x for x in copies(head.content) if not isinstance(x, pf.Note)]
        page.toc.append((head.level, head.identifier, number, words))
    if number:
        head.content = [pf.Span(pf.Str(number), classes=["secno"]), pf.Space, *head.content]
    return head


def paragraph(page: Page, block) -> list[pf.Block]:
    "A paragraph, cut where a displayed formula stands in it."
    out, run, items = [], [], list(block.content)
    kind = type(block)
    while items:
        x = items.pop(0)
        if isinstance(x, pf.Math) and x.format == "DisplayMath":
            out += [kind(*run)] if has_text(run) else []
            run = []
            out.append(equation(page, x, items))
        elif isinstance(x, pf.Span) and "aside" in x.classes:
            out.append(pf.Div(pf.Plain(*x.content), classes=["column-margin", "aside"]))
        else:
            inline_image(page, x)
            run.append(x)
    text = [kind(*glued(run))] if has_text(run) else []
    asides = [b for b in out if isinstance(b, pf.Div) and "aside" in b.classes]
    return [*(b for b in out if b not in asides), *text, *asides]


def glued(inlines: list) -> list:
    "A formula and the punctuation behind it as one piece, so that no line begins with a comma."
    out = []
    for x in inlines:
        behind = isinstance(x, pf.Str) and x.text[0] in ".,;:!?)"
        if behind and out and isinstance(out[-1], pf.Math):
            out[-1] = pf.Span(out[-1], x, classes=["glued"])
        else:
            out.append(x)
    return out


def has_text(inlines: list) -> bool:
    return any(not isinstance(x, (pf.Space, pf.SoftBreak)) for x in inlines)


def inline_image(page: Page, image) -> None:
    if not isinstance(image, pf.Image):
        return
    if image.identifier:
        page.problem(f"a picture inside a sentence cannot have the label {image.identifier}",
                     image.identifier)
    alt = image.attributes.pop("fig-alt", None)
    if alt is not None:
        image.content = [pf.Str(alt)]


def equation(page: Page, formula: pf.Math, following: list) -> pf.Div:
    "A displayed formula, with its number if `{#eq-name}` follows."
    label = None
    rest = [x for x in following if not isinstance(x, pf.Space)][:1]
    if rest and isinstance(rest[0], pf.Str) and rest[0].text.startswith("{#eq-"):
        label, closed, after = rest[0].text[2:].partition("}")
        del following[:following.index(rest[0]) + 1]
        if after:
            following.insert(0, pf.Str(after))
    box = pf.Div(pf.Div(pf.Plain(formula), classes=["formula"]), classes=["equation"])
    if label:
        number = page.next_number("eq")
        page.label(label, "Equation", number)
        box.identifier = label
        eqno = pf.Span(pf.Str(f"({number})"), classes=["eqno"])
        box.content.append(pf.Plain(eqno))
    return box


def division(page: Page, div: pf.Div) -> list[pf.Block]:
    "A fenced division by its class or label."
    for name in set(div.classes) & REFUSED:
        page.problem(f"division .{name} is not supported", f".{name}")
    prefix = div.identifier.partition("-")[0]
    if "cell" in div.classes and "n" in div.attributes:
        return cells.cell(page, div)
    if boxes.callout_kind(div):
        return boxes.callout(page, div)
    if boxes.theorem_kind(div):
        return boxes.theorem(page, div)
    if "panel-tabset" in div.classes:
        return boxes.tabset(page, div)
    if prefix in ("fig", "tbl", "lst") or floats.has_layout(div):
        return floats.markdown_float(page, div)
    if "column" in div.classes and "width" in div.attributes:
        div.attributes["style"] = f"flex-basis: {div.attributes.pop('width')}"
    div.content = convert(page, div.content)
    return [div]


def code_block(page: Page, block: pf.CodeBlock) -> list[pf.Block]:
    "Code written in Markdown: plain, with a file name, or as a listing."
    filename = block.attributes.pop("filename", None)
    caption = block.attributes.pop("lst-cap", None)
    label, out = block.identifier, [block]
    if filename:
        name = raw(f'<header class="filename">{html.escape(filename)}</header>')
        out = wrap("div", [name, *out], class_="code-with-filename")
    if label.startswith("lst-"):
        block.identifier = ""
        return floats.numbered(page, "lst", label, page.inlines(caption or ""), out)
    return out
