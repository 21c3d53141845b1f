"Options and stored outputs that go wrong: checks of one code cell."
import re
from collections.abc import Iterator

from .labels import KINDS
from .sources import OPTION, SHORTCODE, Cell, best_kind, text_of

Found = Iterator[tuple[int, str]]
OPTIONS = {
    "label", "fig-cap", "fig-alt", "fig-subcap", "tbl-cap", "tbl-subcap", "lst-label", "lst-cap",
    "layout", "layout-ncol", "layout-nrow", "column", "echo", "output", "include", "eval", "error",
    "warning", "code-fold", "code-summary", "code-line-numbers", "code-overflow",
    "export", "exports", "exporti", "default_exp", "gpu", "slow", "notest", "exercise", "solution",
    "tolerance",
}  # fmt: skip
VALUES = {"echo": {True, False}, "output": {True, False, "asis"}, "include": {True, False},
          "column": {"margin"}, "code-fold": {True, False, "show"},
          "code-overflow": {"wrap", "scroll"}}  # fmt: skip
REASONS = {"hide": "known to nbdev only; write include: false",
           "out-width": "ignored on stored figures",
           "tbl-subcap": "repeats identifiers"}


def option_lines(cell: Cell) -> list[str]:
    lines = cell.source.split("\n")
    return lines[:next((i for i, x in enumerate(lines) if not OPTION.match(x)), len(lines))]


def option_form(cell: Cell) -> Found:
    "`#| key: value`, one a line, lists in brackets."
    head = option_lines(cell)
    for i, line in enumerate(head):
        text = OPTION.match(line).group(1)
        if re.match(r"\s*- ", text):
            yield i, "a list in block form stops nbdev-export; write [\"a\", \"b\"]"
        elif not re.match(r"\s*[\w-]+:(\s|$)", text):
            yield i, f"{line.strip()}: an option must read `#| key: value`"
        elif re.search(r'-(?:cap|subcap): *\[?"[^"]*\\(?!\\)', text):
            yield i, "single quotes around a caption with a backslash"
        elif re.match(r"[\w-]+-cap: *[^'\"\s|>\[]", text):
            yield i, "quote the caption"
    if cell.error:
        yield 0, cell.error


def options_first(cell: Cell) -> Found:
    "Options below other code are ignored and shown."
    lines, head = cell.source.split("\n"), len(option_lines(cell))
    for i, line in enumerate(lines[head:], head):
        if re.match(r"#\|\s*[\w-]+:", line):
            yield i, "an option must stand in the first lines of the cell"


def known_options(cell: Cell) -> Found:
    for key, value in cell.options.items():
        if key in REASONS and key not in OPTIONS:
            yield 0, f"option {key}: {REASONS[key]}"
        elif key not in OPTIONS:
            yield 0, f"option {key} is not supported"
        elif key in VALUES and (isinstance(value, (list, dict)) or value not in VALUES[key]):
            yield 0, f"option {key}: {value} is not supported"


def label_kinds(cell: Cell) -> Found:
    "A label says what it labels, and its caption is there."
    label = str(cell.options.get("label", ""))
    prefix = label.partition("-")[0]
    if label and (prefix not in KINDS or "-" not in label):
        yield 0, f"label {label} has no known prefix (fig-, tbl-)"
    elif label and prefix not in ("fig", "tbl"):
        yield 0, f"label {label}: a cell makes a figure (fig-) or a table (tbl-)"
    elif label and f"{prefix}-cap" not in cell.options:
        yield 0, f"label {label} needs {prefix}-cap"
    if label and "lst-label" in cell.options:
        yield 0, "label and lst-label in one cell print the caption twice"
    lst = str(cell.options.get("lst-label", "lst-x"))
    if not lst.startswith("lst-"):
        yield 0, f"lst-label {lst} must begin with lst-"
    if "lst-label" in cell.options and "lst-cap" not in cell.options:
        yield 0, "lst-label needs lst-cap"


def shown_outputs(cell: Cell) -> list[dict]:
    if cell.options.get("include") is False or cell.options.get("output") is False:
        return []
    return [o for o in cell.outputs if "data" in o]


def pictures(cell: Cell) -> Found:
    "One image for each caption."
    if not ("fig-cap" in cell.options or str(cell.options.get("label", "")).startswith("fig-")):
        return
    count = sum(best_kind(o["data"]) in ("image/svg+xml", "image/png", "image/jpeg")
                for o in shown_outputs(cell))
    captions = cell.options.get("fig-subcap")
    if isinstance(cell.options.get("fig-cap"), list):
        yield 0, "a list in fig-cap repeats an identifier; write fig-subcap"
    elif count == 0:
        yield 0, "a figure without a stored picture"
    elif captions is not None and count != len(captions):
        yield 0, f"{count} pictures and {len(captions)} sub-captions"
    elif captions is None and count > 1:
        yield 0, f"{count} pictures and one caption; write fig-subcap"


def stored_html(cell: Cell) -> Found:
    "Quarto loads two scripts from a network for any text/html output."
    for output in cell.outputs:
        kinds = output.get("data", {})
        if "text/html" in kinds:
            yield 0, "a stored text/html output; show text/markdown or a picture"
        if any(k.startswith("application/") and "widget" in k for k in kinds):
            yield 0, "a stored widget output"
        if kinds and best_kind(kinds) is None:
            yield 0, f"output {', '.join(kinds)} is not supported"


def streams(cell: Cell) -> Found:
    "A progress bar prints one line for each carriage return."
    for output in cell.outputs:
        if output["output_type"] == "stream" and re.search(r"\r(?!\n)", text_of(output["text"])):
            yield 0, "stored output with carriage returns prints each as a line"


def raising(cell: Cell) -> Found:
    "A cell that raises stops nbdev-test."
    failed = any(o["output_type"] == "error" for o in cell.outputs)
    if failed and cell.options.get("eval") is not False:
        yield 0, "a cell that raises needs eval: false (and keeps its stored output)"


def code_marks(cell: Cell) -> Found:
    "Code that Quarto would change."
    for i, line in enumerate(cell.source.split("\n")):
        if SHORTCODE.search(line):
            yield i, "a shortcode inside code is replaced; write {{{< ... >}}}"
        if re.search(r"#\s*<\d+>\s*$", line):
            yield i, "code annotations are not supported"


CHECKS = [option_form, options_first, known_options, label_kinds, pictures, stored_html, streams,
          raising, code_marks]
