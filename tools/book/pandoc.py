"Runs pandoc: Markdown to a tree, a tree to HTML."
import functools
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import panflute as pf

from .problems import BookError

ASSETS = Path(__file__).parent / "assets"


@functools.cache
def program() -> str:
    "Path of pandoc 3: the one that pypandoc_binary carries, else the one on PATH."
    try:
        import pypandoc

        return str(pypandoc.get_pandoc_path())
    except (ImportError, OSError):
        found = shutil.which("pandoc")
        if found:
            return found
    raise BookError("pandoc is missing: pip install pypandoc_binary")


def run(arguments: list[str], text: str) -> tuple[str, list[str]]:
    "(what pandoc writes, its warnings)."
    command = [program(), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise BookError(f"pandoc: {done.stderr.strip()}")
    warnings = re.split(r"^\[(?:WARNING|INFO)\] ", done.stderr, flags=re.M)
    return done.stdout, [" ".join(w.split()) for w in warnings if w.strip()]


def parse(text: str) -> tuple[pf.Doc, list[str]]:
    "Markdown, as Quarto reads it, to a document."
    out, warnings = run(["-f", "markdown", "-t", "json"], text)
    return pf.load(io.StringIO(out)), warnings


def parse_inlines(texts: list[str]) -> list[list[pf.Inline]]:
    "Short texts (captions, titles), each to its inlines, with one run of pandoc."
    if not texts:
        return []
    mark = "\u2060"  # a word of its own in front: "(a) one" is no list
    doc, _ = parse("\n\n".join(f"::: {{.text}}\n\n{mark} {t}\n\n:::" for t in texts))
    return [list(div.content[0].content)[2:] for div in doc.content]


def write(doc: pf.Doc, bibliography: list[Path], references: str) -> tuple[str, list[str]]:
    "A document to HTML: MathML, highlighted code, citations that link to the page `references`."
    tree = io.StringIO()
    pf.dump(doc, tree)
    cite = ["--citeproc", *(f"--bibliography={b}" for b in bibliography)] if bibliography else []
    metadata = ["-M", "link-citations=true", "-M", f"references={references}"]
    return run(["-f", "json", "-t", "html5", "--mathml", "--section-divs", "--wrap=none",
                *metadata, *cite, "--lua-filter", str(ASSETS / "citations.lua")], tree.getvalue())


def keys_of(bibliography: list[Path]) -> set[str]:
    "The keys that a citation may use."
    found = set()
    for path in bibliography:
        form = {".bib": "biblatex", ".json": "csljson", ".yaml": "markdown"}[path.suffix]
        out, _ = run(["-f", form, "-t", "csljson"], path.read_text(encoding="utf-8"))
        found |= {entry["id"] for entry in json.loads(out)}
    return found
