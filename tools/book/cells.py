"Code cells: the code, folded or not, and the stored outputs with their captions."
import base64
import html
import re

import panflute as pf

from . import floats, structure
from .page import Page
from .sources import Cell, best_kind, text_of

ANSI = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
IMAGES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}


def cell(page: Page, div: pf.Div) -> list[pf.Block]:
    "Everything that is shown of one cell."
    source = page.cells[int(div.attributes["n"])]
    slots = {b.attributes["n"]: b for b in div.content if isinstance(b, pf.Div)}
    out = code(page, source)
    if source.options.get("output") is not False:
        shown = [output(page, source, k, slots[str(k)]) for k in range(len(source.outputs))]
        shown = [x for x in shown if x]
        out += outputs(page, source, shown)
    return structure.wrap("div", out, class_="cell") if out else []


def code(page: Page, source: Cell) -> list[pf.Block]:
    "The code of a cell unless `echo: false`."
    options = source.options
    if options.get("echo") is False or not source.code.strip():
        return []
    classes = ["python", "cell-code"]
    classes += ["numberLines"] if options.get("code-line-numbers") else []
    classes += ["wrap"] if options.get("code-overflow") == "wrap" else []
    out = [pf.CodeBlock(source.code, classes=classes)]
    fold = options.get("code-fold", page.project.code_fold)
    if fold:
        summary = html.escape(str(options.get("code-summary", "Code")))
        inside = [structure.raw(f"<summary>{summary}</summary>"), *out]
        out = structure.wrap("details", inside, class_="code-fold", open=fold == "show")
    if "lst-label" in options:
        caption = page.inlines(options["lst-cap"]) if "lst-cap" in options else []
        out = floats.numbered(page, "lst", options["lst-label"], caption, out)
    return out


def output(page: Page, source: Cell, k: int, slot: pf.Div) -> tuple[str, list[pf.Block]] | None:
    "(kind, blocks) of one stored output, None if it is not shown."
    stored = source.outputs[k]
    if stored["output_type"] == "stream":
        name, text = stored["name"], ANSI.sub("", text_of(stored["text"])).rstrip("\n")
        if name == "stdout" and source.options.get("output") == "asis":
            return "asis", structure.convert(page, slot.content)
        if name == "stderr" and source.options.get("warning") is False:
            return None
        return name, box(name, [pf.CodeBlock(text)])
    if stored["output_type"] == "error":
        text = ANSI.sub("", "\n".join(stored["traceback"]))
        return "error", box("error", [pf.CodeBlock(text)])
    kind = best_kind(stored["data"])
    if kind is None:
        page.problem(f"output {', '.join(stored['data'])} is not supported", source.source[:40])
        return None
    text = text_of(stored["data"][kind])
    if kind in IMAGES:
        return "image", [stored_image(page, source, k, kind, text)]
    if kind in ("text/markdown", "text/latex"):
        return "markdown", box("markdown", structure.convert(page, slot.content))
    if kind == "text/html":
        return "html", box("html", [structure.raw(text)])
    return "text", box("text", [pf.CodeBlock(ANSI.sub("", text))])


def box(kind: str, blocks: list[pf.Block]) -> list[pf.Block]:
    return structure.wrap("div", blocks, class_=f"cell-output cell-output-{kind}")


def stored_image(page: Page, source: Cell, k: int, kind: str, text: str) -> pf.Plain:
    "Writes a picture beside the page and shows it."
    name = source.options.get("label") or f"cell-{source.number}"
    file = f"{page.path.stem}_files/{name}-{k + 1}.{IMAGES[kind]}"
    data = text.encode() if kind == "image/svg+xml" else base64.b64decode(text)
    page.images[file] = data
    image = pf.Image(url=file)
    width = source.outputs[k].get("metadata", {}).get(kind, {}).get("width")
    if width:
        image.attributes["width"] = str(width)
    return pf.Plain(image)


def outputs(page: Page, source: Cell, shown: list) -> list[pf.Block]:
    "The outputs in order; those that a caption belongs to stand in one float."
    options = source.options
    label = str(options.get("label", ""))
    kind = "tbl" if label.startswith("tbl-") or "tbl-cap" in options else "fig"
    wanted = ("image",) if kind == "fig" else ("html", "markdown", "text", "image")
    parts = [(k, blocks) for k, blocks in shown if k in wanted]
    set_alt(options.get("fig-alt"), [b for k, b in parts if k == "image"])
    parts = [picture(blocks) if k == "image" else blocks for k, blocks in parts]
    if not (f"{kind}-cap" in options or label.startswith(f"{kind}-")) or not parts:
        return [b for k, blocks in shown for b in (picture(blocks) if k == "image" else blocks)]
    other = [b for k, blocks in shown if k not in wanted for b in blocks]
    float_ = cell_float(page, kind, label, options, parts)
    if options.get("column") == "margin":
        float_ = structure.wrap("div", float_, class_="column-margin")
    return other + float_


def set_alt(alt, images: list[list[pf.Plain]]) -> None:
    "`fig-alt` is one text for the first picture or a list with one for each."
    texts = alt if isinstance(alt, list) else [alt] * bool(alt)
    for (plain,), text in zip(images, texts, strict=False):
        plain.content[0].content = [pf.Str(str(text))]


def picture(blocks: list[pf.Plain]) -> list[pf.Block]:
    return structure.wrap("div", blocks, class_="cell-output cell-output-image")


def cell_float(page: Page, kind: str, label: str, options: dict, parts: list) -> list[pf.Block]:
    "The figure or table of a cell, with panels if it has sub-captions."
    caption = options.get(f"{kind}-cap", "")
    caption = page.inlines(caption) if isinstance(caption, str) and caption else []
    subcaptions = options.get(f"{kind}-subcap")
    if not label:
        return floats.captioned(kind, "", "", caption, [b for part in parts for b in part])
    number = page.next_number(kind)
    page.label(label, floats.KINDS[kind], number)
    page.counts["panel"] = 0
    if subcaptions:
        parts = [floats.panel(page, kind, f"{label}-{i}", page.inlines(text), part)
                 for i, (text, part) in enumerate(zip(subcaptions, parts, strict=False), 1)]
    content = floats.arrange(page, parts, options)
    return floats.captioned(kind, label, f"{floats.KINDS[kind]}\u00a0{number}", caption, content)
