"Mark-up that looks right in Jupyter and goes wrong on the page: checks of one Markdown cell."
import re
from collections.abc import Iterator

from .labels import KINDS
from .sources import FENCE, SHORTCODE, Cell, without_code

Found = Iterator[tuple[int, str]]
ITEM = re.compile(r"( *)(?:[-*+]|\d{1,2}[.)])( +)\S")
MATH = re.compile(r"\$\$.*?\$\$|(?<!\\)\$(?!\s)(?:[^$\\]|\\.)+?(?<!\s)\$(?!\d)", re.S)


def lines_of(cell: Cell) -> list[str]:
    "Lines without code, displayed formulas filled with x."
    def fill(m):
        return re.sub(r"[^\s$]", "x", m.group(0))
    return re.sub(r"\$\$.*?\$\$", fill, without_code(cell.source), flags=re.S).split("\n")


def line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position)


def blocks(cell: Cell) -> Iterator[list[tuple[int, str]]]:
    "Runs of lines without a blank line, cut at headings and `:::`."
    run = []
    for i, line in enumerate([*lines_of(cell), ""]):
        cut = re.match(r" {0,3}:{3,}", line) or (not run and re.match("#+ ", line))
        if cut or not line.strip():
            if run:
                yield run
            run = []
        else:
            run.append((i, line))


def blank_line_missing(cell: Cell) -> Found:
    "A list or table right under a line of text is printed as text."
    for run in blocks(cell):
        first = run[0][1]
        if ITEM.match(first) or re.match(r" *([|>:]|\([a-z]\) )", first):
            continue
        column = len(first) - len(first.lstrip())
        for (_, before), (i, line) in zip(run, run[1:], strict=False):
            item = ITEM.match(line)
            if item and len(item.group(1)) >= column:
                yield i, "a list needs a blank line before it"
                break
            if line.startswith("|") and not before.startswith("|"):
                yield i, "a table needs a blank line before it"
                break


def blank_line_before_heading(cell: Cell) -> Found:
    "A heading right under text, or a `:::` that opens there, is printed as text."
    before = ""
    for i, line in enumerate(lines_of(cell)):
        after_text = before.strip() and not re.match(r" {0,3}:{3,}|#+ ", before)
        if after_text and re.match(r"#{1,6} \S", line):
            yield i, "a heading needs a blank line before it"
        if after_text and re.match(r" {0,3}:{3,} *[{\w]", line):
            yield i, "::: needs a blank line before it"
        before = line


def list_indent(cell: Cell) -> Found:
    "A nested list begins under the text of the item above, 3 columns in under `1. `."
    column = 0
    for i, line in enumerate(lines_of(cell)):
        m = ITEM.match(line)
        if m and 0 < len(m.group(1)) < column:
            yield i, f"indent a nested list by {column} columns"
        elif m and not m.group(1):
            column = m.start(2) + len(m.group(2))
        elif line.strip() and not line.startswith(" "):
            column = 0


def formulas(cell: Cell) -> Found:
    "`$ x $`, `\\(x\\)`, blank lines in `$$`, numbers by hand."
    text = without_code(cell.source)
    for m in re.finditer(r"\$\$(.*?)\$\$", text, re.S):
        if re.search(r"\n[ \t>]*\n", m.group(1)):
            yield line_at(text, m.start()), "a blank line inside $$"
        if r"\tag" in m.group(1):
            yield line_at(text, m.start()), r"\tag fails in MathML; write {#eq-name} after $$"
    for m in re.finditer(r"\$\$[ \t]*\n\s*(?=\{#)", text):
        yield line_at(text, m.start()), "{#eq-name} stands on the line of the closing $$"
    if len(re.findall(r"(?<!\\)\$\$", text)) % 2:
        yield line_at(text, text.rfind("$$")), "$$ is never closed"
        return
    rest = MATH.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)
    for m in re.finditer(r"(?<!\\)\$", rest):
        yield line_at(text, m.start()), r"a $ without a formula: no space inside, or write \$"
        break
    for m in re.finditer(r"\\\(|\\\[|\\begin\{(?:align|equation|gather)", rest):
        yield line_at(text, m.start()), f"{m.group(0)} outside $$ is printed as text or unnumbered"


def rules(cell: Cell) -> Found:
    "`---` is front matter at the start of a cell and makes a heading of the line above."
    text = lines_of(cell)
    first = next((x for x in text if x.strip()), "")
    if first.strip() == "---":
        yield 0, "a cell that begins with --- is read as front matter; write *** for a rule"
    for i, (before, line) in enumerate(zip(text, text[1:], strict=False), 1):
        if re.fullmatch(r"(-{2,}|={2,})\s*", line) and before.strip() and "|" not in before:
            yield i, f"{line.strip()} under text makes a heading of it"


def headings(cell: Cell) -> Found:
    "Four levels, and a space after the marks."
    for i, line in enumerate(lines_of(cell)):
        if re.match(r"#{5,6} ", line):
            yield i, "headings deeper than level 4 are not numbered"
        if re.match(r"#{1,6}[^#\s]", line) and not line.startswith("#|"):
            yield i, "a heading needs a space after #"


def labels(cell: Cell) -> Found:
    "A label of a formula, figure or table has a known prefix."
    for i, line in enumerate(lines_of(cell)):
        m = re.search(r"(?:\$\$|\)|^: .*)[ ]?\{#([\w-]+)", line)
        if m and m.group(1).partition("-")[0] not in KINDS:
            yield i, f"label {m.group(1)} has no known prefix ({', '.join(KINDS)})"
        m = re.search(r"(?<![\w\\])@alg-[\w-]+", line)
        if m:
            yield i, f"{m.group(0)}: algorithms are not supported"


def directives(cell: Cell) -> Found:
    for i, line in enumerate(lines_of(cell)):
        if line.startswith("#|"):
            yield i, "a #| line in a Markdown cell is printed"


def addresses(cell: Cell) -> Found:
    "A bare address stays text; a picture from elsewhere would be fetched."
    for i, line in enumerate(lines_of(cell)):
        if re.search(r"!\[[^\]]*\]\(\s*(?:https?:)?//", line):
            yield i, "a picture is fetched from a network"
        elif re.search(r"(?<![<(\[\"'=/\w])https?://", line):
            yield i, "a bare address stays text; write <https://...>"


def fences(cell: Cell) -> Found:
    "Fences that Quarto would execute or draw."
    for i, line in enumerate(cell.source.split("\n")):
        m = FENCE.match(line)
        if m and re.match(r"\s*\{\w", m["info"]):
            yield i, f"a fence {m['info'].strip()} is not supported"


def shortcodes_in_code(cell: Cell) -> Found:
    "Quarto replaces shortcodes inside code as well."
    blanked = without_code(cell.source)
    for m in SHORTCODE.finditer(cell.source):
        line = line_at(cell.source, m.start())
        if m.group(0) not in blanked.split("\n")[line]:
            yield line, "a shortcode inside code is replaced; write {{{< ... >}}}"


CHECKS = [blank_line_missing, blank_line_before_heading, list_indent, formulas, rules, headings,
          labels, directives, addresses, fences, shortcodes_in_code]
