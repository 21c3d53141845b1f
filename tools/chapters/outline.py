"""Which notebooks are the book: `_quarto.yml`, or all of `nbs/`."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def _notebooks(entries: list) -> list[str]:
    found = []
    for entry in entries or []:
        if isinstance(entry, dict):  # {"part": title or file, "chapters": [...]}
            found += _notebooks([entry[key] for key in ("part", "file") if key in entry])
            found += _notebooks(entry.get("chapters", []))
        elif str(entry).endswith(".ipynb"):
            found.append(str(entry))
    return found


def _book(root: Path) -> dict:
    return yaml.safe_load((root / "_quarto.yml").read_text(encoding="utf-8"))["book"]


def listed(root: Path = ROOT) -> list[Path]:
    "The notebooks of the book in reading order, appendices last."
    book = _book(root)
    names = _notebooks(book.get("chapters", [])) + _notebooks(book.get("appendices", []))
    if missing := [name for name in names if not (root / name).is_file()]:
        raise FileNotFoundError(f"_quarto.yml lists {', '.join(missing)}: no such file")
    return [root / name for name in names]


def appendices(root: Path = ROOT) -> set[Path]:
    if not (root / "_quarto.yml").is_file():
        return set()
    return {root / name for name in _notebooks(_book(root).get("appendices", []))}


def every(root: Path = ROOT) -> list[Path]:
    "All notebooks of `nbs/` by name, which is the order of their numbers."
    return sorted((root / "nbs").glob("*.ipynb"))


def select(wanted: list[str], root: Path = ROOT, *, all_of_them: bool = False) -> list[Path]:
    "The notebooks that are meant by numbers (03), names (03-gradients) or paths."
    if not wanted:
        return every(root) if all_of_them else listed(root)
    paths = every(root)
    found = []
    for word in wanted:
        stem = Path(word).name.removesuffix(".ipynb")
        hits = [p for p in paths if stem in (p.stem, p.stem.split("-")[0])]
        if len(hits) != 1:
            known = ", ".join(p.stem for p in paths) or "none"
            raise ValueError(f"{word!r} names {len(hits)} chapters, expected one of: {known}")
        found += [hit for hit in hits if hit not in found]
    return found
