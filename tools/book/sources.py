"""Reads notebooks and `.qmd` pages into cells, and cells into the Markdown that pandoc parses.

Code and outputs are not written as Markdown: a cell becomes an empty `::: {.cell n=...}` with one
empty `::: {.cell-output n=...}` for each output, which `cells.py` fills. Only outputs that *are*
Markdown stand inside, so that a reference or a footnote in them is one of the page.
"""
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

OPTION = re.compile(r"#\|\s?(.*)")
SHORTCODE = re.compile(r"(?<!\{)\{\{<\s*(\w+)\s*(.*?)\s*>\}\}(?!\})")
ESCAPED = re.compile(r"\{(\{\{<.*?>\}\})\}")
FENCE = re.compile(r"^(?P<indent>[ >]*)(?P<mark>`{3,}|~{3,})(?P<info>.*)$")


@dataclass
class Cell:
    "One cell of a notebook; a `.qmd` page is one Markdown cell."

    kind: str  # markdown, code, raw
    source: str
    number: int  # from 1; 0 for a .qmd page
    line: int = 1  # where its text begins in the file, for .qmd
    text: str = ""  # the source with shortcodes replaced
    outputs: list = field(default_factory=list)
    options: dict = field(default_factory=dict)
    code: str = ""
    error: str = ""  # what is wrong with the options

    def place(self, line: int = 0) -> str:
        "How a message names a line of this cell."
        if not self.number:
            return f"line {self.line + line}"
        return f"cell {self.number}" + (f" line {line + 1}" if line else "")


def text_of(x) -> str:
    return "".join(x) if isinstance(x, list) else x or ""


def read_cells(path: Path) -> list[Cell]:
    "All cells of a page, options parsed."
    if path.suffix == ".ipynb":
        stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [notebook_cell(c, i + 1) for i, c in enumerate(stored)]
    text = path.read_text(encoding="utf-8")
    front = re.match(r"---\n(.*?)\n---[ ]*\n", text, re.S)
    if not front:
        return [Cell("markdown", text, 0)]
    body = Cell("markdown", text[front.end():], 0, 1 + front.group(0).count("\n"))
    return [Cell("raw", front.group(0), 0), body]


def notebook_cell(stored: dict, number: int) -> Cell:
    cell = Cell(stored["cell_type"], text_of(stored["source"]), number)
    if cell.kind == "code":
        cell.outputs = stored.get("outputs", [])
        lines = cell.source.split("\n")
        head = next((i for i, x in enumerate(lines) if not OPTION.match(x)), len(lines))
        cell.code = "\n".join(lines[head:]).strip("\n")
        try:
            parsed = yaml.safe_load("\n".join(OPTION.match(x).group(1) for x in lines[:head])) or {}
            if isinstance(parsed, dict):
                cell.options = parsed
            else:
                cell.error = "an option must read `#| key: value`"
        except yaml.YAMLError as error:
            cell.error = f"options are not YAML ({str(error).splitlines()[0]}); quote captions"
    return cell


def front_matter(cells: list[Cell]) -> dict:
    "The YAML between `---` in a raw cell or at the head of a `.qmd` page."
    found = {}
    for cell in cells:
        m = re.fullmatch(r"\s*---\n(.*?)\n---\s*", cell.source, re.S)
        if m and cell.kind == "raw":
            found.update(yaml.safe_load(m.group(1)) or {})
    return found


def markdown(cells: list[Cell]) -> str:
    "The page as one Markdown text, with empty divisions for code and outputs."
    parts = []
    for i, cell in enumerate(cells):
        if cell.kind == "markdown":
            parts.append(cell.text or cell.source)
        elif cell.kind == "code" and cell.options.get("include") is not False:
            parts.append(cell_markdown(cell, i))
    return "\n\n".join(parts) + "\n"


def cell_markdown(cell: Cell, index: int) -> str:
    lines = [f'::: {{.cell n="{index}"}}', ""]
    for k, output in enumerate(cell.outputs):
        lines += [f'::: {{.cell-output n="{k}"}}', "", output_markdown(cell, output), "", ":::", ""]
    return "\n".join([*lines, ":::"])


def output_markdown(cell: Cell, output: dict) -> str:
    "The part of an output that pandoc has to parse."
    if cell.options.get("output") is False:
        return ""
    if output["output_type"] == "stream":
        printed = output["name"] == "stdout" and cell.options.get("output") == "asis"
        return text_of(output["text"]) if printed else ""
    kind = best_kind(output.get("data", {}))
    return text_of(output["data"][kind]) if kind in ("text/markdown", "text/latex") else ""


def best_kind(data: dict) -> str | None:
    "Which of the stored forms of one output is shown."
    order = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/latex",
             "text/plain")
    return next((k for k in order if k in data), None)


def expand(text: str, folder: Path, metadata: dict, variables: dict, report) -> str:
    "Replaces shortcodes; `report(message, shortcode)` hears of those that fail."
    def one(m):
        name, argument = m.groups()
        try:
            return SHORTCODES[name](argument, folder, metadata, variables)
        except KeyError as missing:
            known = ", ".join(SHORTCODES)
            report(f"shortcode {name} is not supported (known: {known})" if name not in SHORTCODES
                   else f"shortcode {name}: {missing} is not defined", m.group(0))
        except OSError:
            report(f"include: no file {argument} beside the page", m.group(0))
        return m.group(0)
    return ESCAPED.sub(r"\1", SHORTCODE.sub(one, text))


def lookup(tree: dict, dotted: str) -> str:
    for key in dotted.split("."):
        tree = tree[key]
    return str(tree)


SHORTCODES = {
    "include": lambda a, folder, meta, var: (folder / a).read_text(encoding="utf-8"),
    "meta": lambda a, folder, meta, var: lookup(meta, a),
    "var": lambda a, folder, meta, var: lookup(var, a),
    "kbd": lambda a, folder, meta, var: f"`<kbd>{a}</kbd>`{{=html}}",
}


def without_code(text: str, fences: bool = False) -> str:
    """The same text with code and comments blanked, lines and columns kept.

    With `fences` the opening line of fenced code stays, since a label may stand there.
    """
    lines, closing = [], None
    for line in text.split("\n"):
        m = FENCE.match(line)
        if closing:
            done = m and m["mark"].startswith(closing) and not m["info"].strip()
            closing = None if done else closing
            lines.append("")
        elif m and "`" not in m["info"]:
            closing = m["mark"]
            lines.append(line if fences else "")
        else:
            lines.append(line)
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    text = re.sub(r"<!--.*?-->", blank, "\n".join(lines), flags=re.S)
    return re.sub(r"(?<![`\\])(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\1(?!`)", blank, text, flags=re.S)
