"""Stored outputs against those of a run: words exactly, numbers within a tolerance."""

import difflib
import re

from . import notebook, outputs

TOLERANCE = 0.05  # relative to the larger of the two
SMALL = 1e-5  # below: rounding error, compared by order of magnitude
SMALL_FACTOR = 1000
ZERO = 1e-12  # below: zero

_TOKEN = re.compile(
    r"""(?P<exact> (?<![\w.])
                   (?: \d{4}-\d\d-\d\d | \d\d?:\d\d(?::\d\d)? | \d+(?:\.\d+){2,} ) (?!\w) )
      | (?P<shape> \( (?:\d+,\s*)+ \d* \) )
      | (?P<number> (?: (?<![^\s(\[{,;:=|<>~±≈"'`$]) [-+−] )? (?<![\w.])
                    (?: (?:\d{1,3}(?:,\d{3})+(?!\d) | \d+) (?:\.\d+)? | \.\d+ ) (?:[eE][-+]?\d+)? )
      | (?P<rule> [-─═=]{2,} )
      | (?P<word> \w+ | \S )""",
    re.X,
)


def tokens(text: str, *, shapes: bool = True) -> list[tuple[str, str]]:
    "Words, marks and numbers of a text; spaces between them do not count."
    found: list[tuple[str, str]] = []
    end = -1
    for match in _TOKEN.finditer(text):
        kind, value = match.lastgroup, match[0]
        if kind == "shape" and not shapes:
            found += tokens(value.replace("(", "( "))
        elif value == "." and found and found[-1][0] == "number" and end == match.start():
            pass  # NumPy's "1." and "1.5" are both numbers
        elif kind == "rule":
            found.append(("word", value[0] * 2))  # the width of a table's rule follows its numbers
        elif kind == "shape":
            found.append(("word", re.sub(r"\s", "", value)))
        else:
            found.append(("word" if kind == "exact" else kind, value))
        end = match.end()
    return found


def _value(token: str) -> float:
    return float(token.replace(",", "").replace("−", "-"))


def close(a: float, b: float, tolerance: float = TOLERANCE) -> bool:
    "True if two numbers say the same."
    if a == b:
        return True
    largest, least = max(abs(a), abs(b)), min(abs(a), abs(b))
    if largest < SMALL:
        return largest <= SMALL_FACTOR * max(least, ZERO)
    return abs(a - b) <= tolerance * largest * (1 + 1e-9)


def tolerance_of(cell: dict) -> float | str | None:
    "What the cell says in `tolerance:`: a number, `any`, `kind`, or None."
    value = notebook.directives(cell).get("tolerance")
    if value in (None, "any", "kind"):
        return value
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"tolerance must be a number from 0 to 1, `any` or `kind`, got {value!r}")
    return number


def _short_diff(old: str, new: str, lines: int = 8) -> list[str]:
    diff = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    rows = [row[:160] for row in diff if not row.startswith(("---", "+++", "@@"))]
    return rows[:lines] + ([f"... {len(rows) - lines} more lines"] if len(rows) > lines else [])


def text_difference(old: str, new: str, tolerance: float | str | None = None) -> list[str]:
    "Empty if the texts say the same; else what differs, then a short diff."
    if tolerance == "kind":
        return []
    shapes = tolerance is None
    a, b = tokens(old, shapes=shapes), tokens(new, shapes=shapes)
    if [t if t[0] == "word" else None for t in a] != [t if t[0] == "word" else None for t in b]:
        return ["the text is not the stored one", *_short_diff(old, new)]
    if tolerance == "any":
        return []
    allowed = TOLERANCE if tolerance is None else tolerance
    for (kind, x), (_, y) in zip(a, b, strict=True):
        if kind == "number" and not close(_value(x), _value(y), allowed):
            return [f"{x} became {y} ({allowed:.0%} allowed)", *_short_diff(old, new)]
    return []


def kinds(found: list[dict]) -> list[str]:
    "What each output is: `stdout`, `execute_result text/plain`, ..."
    return [
        o.get("name") or " + ".join([o["output_type"], *sorted(o.get("data", {}))]) for o in found
    ]


def _fields(output: dict) -> dict[str, str]:
    data = {k: v for k, v in output.get("data", {}).items() if k.startswith("text/")}
    if "text" in output:
        data["text"] = output["text"]
    if output["output_type"] == "error":
        data["error"] = f"{output['ename']}: {output['evalue']}"
    return data


def cell_differences(old: dict, new: dict) -> list[str]:
    "Stored cell against the same cell after a run; each difference is one text of several lines."
    tolerance = tolerance_of(old)
    if notebook.says(old, "gpu", "true"):
        return []  # depends on the machine
    a, b = kinds(old["outputs"]), kinds(new["outputs"])
    if a != b:
        return [f"outputs were {a or 'none'} and are {b or 'none'}"]
    found = []
    for x, y in zip(old["outputs"], new["outputs"], strict=True):
        then, now = _fields(x), _fields(y)
        found += [text_difference(then[k], now[k], tolerance) for k in then]
    computed = outputs.alts(new)
    if computed and outputs.with_alts(new) != new["source"]:
        written = outputs.written_alts(old)
        if len(written) != len(computed):
            found.append([f"fig-alt has {len(written)} sentences for {len(computed)} figures"])
        else:
            for x, y in zip(written, computed, strict=True):
                diff = text_difference(" ".join(x.split()), y, tolerance)
                found.append(["fig-alt: " + diff[0], *diff[1:]] if diff else [])
    return ["\n    ".join(lines) for lines in found if lines]
