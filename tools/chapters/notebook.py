"""Chapters as files: reading, writing, and the `#| key: value` lines of a cell."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

KEPT_CELL_METADATA = {"tags", "hide_input", "nbdev"}  # what nbdev-clean keeps
KEPT_METADATA = {"kernelspec", "jekyll", "jupytext", "doc", "widgets", "nbdev"}


@dataclass
class Chapter:
    """One notebook; sources and text outputs are plain strings, not lists of lines."""

    path: Path
    cells: list[dict]
    rest: dict  # everything of the file beside the cells
    text: str  # the file as it was read

    @property
    def name(self) -> str:  # "03-gradients"
        return self.path.stem

    @property
    def number(self) -> str:  # "03"
        return self.path.stem.split("-")[0]

    def code_cells(self) -> list[tuple[int, dict]]:  # (number counted from 1, cell)
        return [(n, c) for n, c in enumerate(self.cells, 1) if c["cell_type"] == "code"]

    def markdown_cells(self) -> list[tuple[int, dict]]:
        return [(n, c) for n, c in enumerate(self.cells, 1) if c["cell_type"] == "markdown"]


def _joined(value):
    return "".join(value) if isinstance(value, list) else value


def parse(text: str, path: str | Path) -> Chapter:
    "The chapter in the text of a notebook file."
    rest = json.loads(text)
    cells = rest.pop("cells")
    for cell in cells:
        cell["source"] = _joined(cell["source"])
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = _joined(output["text"])
            for kind, value in output.get("data", {}).items():
                if is_text(kind):
                    output["data"][kind] = _joined(value)
    return Chapter(Path(path), cells, rest, text)


def read(path: str | Path) -> Chapter:
    return parse(Path(path).read_text(encoding="utf-8"), path)


def is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind == "image/svg+xml"


def _written_output(output: dict) -> dict:
    output = dict(output)
    if "text" in output:
        output["text"] = output["text"].splitlines(keepends=True)
    if "data" in output:
        output["data"] = {
            kind: value.splitlines(keepends=True) if is_text(kind) else value
            for kind, value in output["data"].items()
        }
    return output


def _written_cell(cell: dict) -> dict:
    cell = dict(cell, source=cell["source"].splitlines(keepends=True))
    cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k in KEPT_CELL_METADATA}
    if cell["cell_type"] == "code":
        cell["execution_count"] = None
        cell["outputs"] = [_written_output(output) for output in cell["outputs"]]
    return cell


def dump(chapter: Chapter) -> str:
    "The text of the file, as nbdev-clean leaves it."
    rest = dict(chapter.rest)
    rest["metadata"] = {k: v for k, v in rest.get("metadata", {}).items() if k in KEPT_METADATA}
    if kernel := rest["metadata"].get("kernelspec"):
        rest["metadata"]["kernelspec"] = dict(kernel, display_name=kernel["name"])
    rest["cells"] = [_written_cell(cell) for cell in chapter.cells]
    return json.dumps(rest, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def write(chapter: Chapter, path: str | Path | None = None) -> bool:
    "Write the chapter if its text changed; true if it did."
    path, text = Path(path or chapter.path), dump(chapter)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    half = path.with_name(f".{path.name}.half")
    half.write_text(text, encoding="utf-8")
    os.replace(half, path)
    return True


# Directives: the lines `#| key: value` at the top of a code cell.

_KEY = re.compile(r"#\|\s?([\w-]+)\s*(?::\s*(.*))?$")


def _split(source: str) -> tuple[list[str], list[str]]:
    lines = source.split("\n")
    top = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    return lines[:top], lines[top:]


def directive_lines(cell: dict) -> list[str]:
    return _split(cell["source"])[0] if cell["cell_type"] == "code" else []


def code(cell: dict) -> str:
    "The source without its directives."
    return "\n".join(_split(cell["source"])[1]).strip("\n")


def directives(cell: dict) -> dict[str, str]:
    "The values as they are written; a bare key is `true`; lines that continue one are added to it."
    found: dict[str, str] = {}
    key = None
    for line in directive_lines(cell):
        if match := _KEY.match(line.rstrip()):
            key = match[1]
            found[key] = "true" if match[2] is None else match[2]
        elif key is not None:
            found[key] += "\n" + line[2:]
    return found


def says(cell: dict, key: str, value: str) -> bool:  # says(cell, "eval", "false")
    return directives(cell).get(key) == value


def with_directive(source: str, key: str, value: str, after: tuple[str, ...]) -> str:
    "The source with `#| key: value` in place of the old line, else behind the first of `after`."
    top, rest = _split(source)
    line = f"#| {key}: {value}"
    keys, current = [], None
    for text in top:
        match = _KEY.match(text.rstrip())
        current = match[1] if match else current
        keys.append(current)
    if key in keys:
        at = keys.index(key)
        top = [text for text, k in zip(top, keys, strict=True) if k != key]
    else:
        anchors = [len(keys) - keys[::-1].index(k) for k in after if k in keys]
        at = anchors[0] if anchors else len(top)
    return "\n".join([*top[:at], line, *top[at:], *rest])


def runs(cell: dict) -> bool:
    "True if the runner executes the cell."
    return cell["cell_type"] == "code" and bool(code(cell)) and not says(cell, "eval", "false")


def place(number: int, cell: dict) -> str:
    "`cell 7 (1a2b3c4d) first line of code`."
    lines = (code(cell) or cell["source"]).split("\n")
    first = next((line for line in lines if line.strip()), "")
    first = first if len(first) <= 60 else first[:57] + "..."
    return f"cell {number} ({cell.get('id', 'no id')}) `{first}`"
