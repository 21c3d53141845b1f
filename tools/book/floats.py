"Figures, tables and listings with captions, and panels of them."
import json
import re

import panflute as pf

from . import structure
from .labels import KINDS
from .page import Page

NAMES = {"fig": "figure", "tbl": "table", "lst": "listing"}
LAYOUT = ("layout", "layout-ncol", "layout-nrow")


def numbered(page: Page, kind: str, label: str, caption: list, blocks: list) -> list[pf.Block]:
    "A float with the next number of its kind."
    number = page.next_number(kind)
    page.label(label, KINDS[kind], number)
    return captioned(kind, label, f"{KINDS[kind]}\u00a0{number}", caption, blocks)


def panel(page: Page, kind: str, label: str, caption: list, blocks: list) -> list[pf.Block]:
    "A part of the float that was numbered last: (a), (b), ..."
    number = f"{page.number}.{page.counts[kind]}" if page.number else str(page.counts[kind])
    page.counts["panel"] += 1
    letter = f"({chr(96 + page.counts['panel'])})"
    page.label(label, KINDS[kind], f"{number}\u00a0{letter}")
    return captioned(kind, label, letter, caption, blocks)


def captioned(kind: str, label: str, mark: str, caption: list, blocks: list) -> list[pf.Block]:
    "`figure` with its caption: below a picture, above a table or a listing."
    end = ("" if mark.startswith("(") else ":") if caption else ""
    words = [pf.Span(pf.Str(mark + end), classes=["float-number"])] if mark else []
    words += [pf.Space, *caption] if words and caption else caption
    text = structure.wrap("figcaption", [pf.Plain(*words)]) if words else []
    if kind == "tbl":
        blocks = structure.wrap("div", blocks, class_="scroll")
    content = [*blocks, *text] if kind == "fig" else [*text, *blocks]
    return structure.wrap("figure", content, id=label, class_=f"float {NAMES[kind]}")


def image_only(block: pf.Block) -> bool:
    return isinstance(block, (pf.Para, pf.Plain)) and all(
        isinstance(x, (pf.Image, pf.Space, pf.SoftBreak)) for x in block.content)


def picture(image: pf.Image) -> pf.Plain:
    "An image of a figure: its text is `fig-alt` and nothing else, never the caption."
    alt = image.attributes.pop("fig-alt", None)
    image.content = [pf.Str(alt)] if alt else []
    image.title = ""
    return pf.Plain(image)


def markdown_figure(page: Page, block: pf.Figure, part: bool = False) -> list[pf.Block]:
    "`![caption](file){#fig-x}` alone in a paragraph."
    image = block.content[0].content[0]
    caption = list(block.caption.content[0].content) if block.caption.content else []
    label = block.identifier
    content = [picture(image)]
    if not label.startswith("fig-"):
        return captioned("fig", label, "", caption, content)
    return (panel if part else numbered)(page, "fig", label, caption, content)


def markdown_table(page: Page, block: pf.Table, part: bool = False) -> list[pf.Block]:
    "A pipe table; without a label it keeps its caption inside."
    widths = json.loads(block.attributes.pop("tbl-colwidths", "[]"))
    if widths:
        block.colspec = [(a, w / sum(widths)) for (a, _), w in zip(block.colspec, widths,
                                                                   strict=True)]
    label = block.identifier
    if not label.startswith("tbl-"):
        return structure.wrap("div", [block], class_="scroll")
    caption = list(block.caption.content[0].content)
    block.identifier, block.caption = "", pf.Caption()
    return (panel if part else numbered)(page, "tbl", label, caption, [block])


def has_layout(div: pf.Div) -> bool:
    return any(name in div.attributes for name in LAYOUT)


def markdown_float(page: Page, div: pf.Div) -> list[pf.Block]:
    "`::: {#fig-x layout-ncol=2}`: panels, and a last paragraph that is the caption."
    blocks, kind = list(div.content), div.identifier.partition("-")[0]
    caption = []
    if kind in NAMES and isinstance(blocks[-1], pf.Para) and not image_only(blocks[-1]):
        caption = list(blocks.pop().content)
    label = div.identifier if kind in NAMES else ""
    if label:
        number = page.next_number(kind)
        page.label(label, KINDS[kind], number)
        page.counts["panel"] = 0
    parts = [markdown_panel(page, kind, b) for b in blocks]
    content = arrange(page, parts, div.attributes)
    if not label:
        return content
    return captioned(kind, label, f"{KINDS[kind]}\u00a0{number}", caption, content)


def markdown_panel(page: Page, kind: str, block: pf.Block) -> list[pf.Block]:
    if isinstance(block, pf.Figure):
        return markdown_figure(page, block, part=kind == "fig")
    if isinstance(block, pf.Table):
        return markdown_table(page, block, part=kind == "tbl")
    if image_only(block):
        return [picture(x) for x in block.content if isinstance(x, pf.Image)]
    return structure.convert_one(page, block)


def arrange(page: Page, parts: list[list[pf.Block]], options: dict) -> list[pf.Block]:
    "Panels in rows; without a layout, one after the other."
    rows = layout_rows(page, len(parts), options)
    if not rows:
        return [block for part in parts for block in part]
    out, left = [], list(parts)
    for row in rows:
        cells = [b for part in left[:len(row)] for b in structure.wrap("div", part, class_="panel")]
        left = left[len(row):]
        columns = " ".join(f"minmax(0, {w}fr)" for w in row)
        out += structure.wrap("div", cells, class_="panel-row", style=f"--columns: {columns}")
    return structure.wrap("div", out, class_="panels")


def layout_rows(page: Page, count: int, options: dict) -> list[list[float]]:
    "Relative widths of the panels of each row."
    if "layout-ncol" in options:
        n = int(options["layout-ncol"])
        return [[1] * n for _ in range(-(-count // n))]
    if "layout-nrow" in options:
        n = -(-count // int(options["layout-nrow"]))
        return [[1] * n for _ in range(-(-count // n))]
    layout = options.get("layout", [])
    if isinstance(layout, str):
        layout = json.loads(layout)
    if layout and not isinstance(layout[0], list):
        layout = [layout]
    if any(w < 0 for row in layout for w in row):
        page.problem("negative widths in a layout are not supported", "layout")
    return [[float(re.sub("%$", "", str(w))) for w in row] for row in layout]
