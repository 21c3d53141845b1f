"The renderer against what Quarto prints, and every check against the fault it is there for."
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("panflute", reason="the extra `book` is not installed")
pytest.importorskip("yaml", reason="the extra `book` is not installed")
ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(os.environ.get("RNNTEXT_SHARED_BOOK", ROOT.parent / "shared" / "golden-book"))
sys.path.insert(0, str(ROOT))

from tools.book import __main__ as command  # noqa: E402
from tools.book import build, checks, problems  # noqa: E402

PREFACE = "# Preface {.unnumbered}\n\nWords [@key].\n"
BIB = "@book{key, author = {Key, Ann}, title = {A Book}, date = {1990}, publisher = {P}}\n"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def code(source, *outputs):
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": list(outputs)}


def words(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def data(kind, value):
    return {"output_type": "display_data", "data": {kind: value}, "metadata": {}}


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def write_book(folder, *cells, config="", title="# One {#sec-one}\n\nText."):
    "A book with a preface, one chapter and its references."
    cells = [words(title), *cells] if title else list(cells)
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    files = {
        "_quarto.yml": "project:\n  type: book\nbook:\n  title: T\n  chapters:\n    - index.qmd\n"
        "    - one.ipynb\n    - references.qmd\nbibliography: r.bib\n" + config,
        "index.qmd": PREFACE, "r.bib": BIB, "one.ipynb": json.dumps(notebook), "a.svg": SVG,
        "references.qmd": "# References {.unnumbered}\n\n::: {#refs}\n:::\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def found(folder):
    return [str(p) for p in build.Book(folder).render().problems]


def page(folder):
    return build.Book(folder).render().files["one.html"].decode()


# -- the golden book
@pytest.fixture(scope="module")
def golden_book():
    if not GOLDEN.is_dir():
        pytest.skip(f"no golden book at {GOLDEN} (set RNNTEXT_SHARED_BOOK)")
    return build.Book(GOLDEN / "source").render()


def test_golden_book_prints_what_quarto_prints(golden_book, tmp_path):
    pytest.importorskip("bs4", reason="the extra `dev` is not installed")
    site, facts = tmp_path / "site", tmp_path / "facts"
    build.save(golden_book, site)
    adapter = Path(__file__).parent / "book" / "adapter.json"
    subprocess.run([sys.executable, GOLDEN / "extract.py", site, facts, "--source",
                    GOLDEN / "source", "--adapter", adapter], check=True, capture_output=True)
    done = subprocess.run([sys.executable, GOLDEN / "compare.py", GOLDEN / "golden", facts],
                          capture_output=True, text=True)
    assert done.stdout.startswith("0 errors"), done.stdout


def test_golden_book_has_only_the_problems_that_its_readme_names(golden_book):
    messages = {p.message for p in golden_book.problems}
    assert messages == {"a stored text/html output; show text/markdown or a picture",
                        "text after @fig-both inside the brackets is lost"}


# -- faults in the text of a cell
PROSE = {
    "text\n- item": "a list needs a blank line",
    "text\n1. item": "a list needs a blank line",
    "text\n| a |\n|---|\n| 1 |": "a table needs a blank line",
    "text\n## Heading": "a heading needs a blank line",
    "text\n::: {.callout-note}\nx\n:::": "::: needs a blank line",
    "1. one\n  - two": "indent a nested list by 3 columns",
    "So $ x $ it is.": "a $ without a formula",
    r"So \(x\) it is.": "outside $$",
    "\\begin{align}\nx\n\\end{align}": "outside $$",
    "$$\nx\n\ny\n$$": "a blank line inside $$",
    "$$\nx\n$$\n{#eq-a}": "on the line of the closing $$",
    "$$\nx\n\nand more": "$$ is never closed",
    "$$x \\tag{1}$$": r"\tag fails",
    "---\nmore": "begins with ---",
    "text\n---": "makes a heading",
    "##### Five": "deeper than level 4",
    "##Two": "a heading needs a space",
    "![a](a.svg){#plot}": "label plot has no known prefix",
    "By @alg-x.": "algorithms are not supported",
    "#| export: true": "a #| line in a Markdown cell",
    "See https://example.org for more.": "a bare address",
    "![a](https://example.org/a.svg)": "fetched from a network",
    "`{{< meta x >}}`": "a shortcode inside code",
    "```{mermaid}\na\n```": "a fence {mermaid} is not supported",
    "# Two": "a second # heading",
    "Note.[^a]": "footnote [^a] is not defined",
    "[^a]: Note.": "never referred to",
    "::: {.box}\nx": "is never closed",
    "x\n\n:::": "closes nothing",
}


@pytest.mark.parametrize("text", PROSE)
def test_fault_in_text_is_found(text, tmp_path):
    write_book(tmp_path, words(text))
    assert any(PROSE[text] in p.message for p in checks.check_book(tmp_path)), text


SAFE = [
    "- one\n- two\n  more\n- three\n\n1. a\n   - b\n   - c\n2. d",
    "Costs \\$5, and $x$, $a\\$b$.\n\n$$\ny\n$$ {#eq-y}\n\n$$z$$",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n: Caption {#tbl-a}",
    "```python\n# no heading\ntext\n- no list $ x $\n```",
    "::: {.callout-note}\n## Title\nText `$ x $`.\n:::",
    "> quoted\n> - more\n\n***\n\n[link](https://example.org), <https://example.org>",
    "Note.[^n]\n\n[^n]: The note.",
    "$$\n\\begin{aligned}\na &= b \\\\\n- c\n\\end{aligned}\n$$ {#eq-lines}",
]


@pytest.mark.parametrize("text", SAFE)
def test_safe_text_is_left_alone(text, tmp_path):
    assert checks.check_book(write_book(tmp_path, words(text))) == []


# -- faults in a code cell
IMAGE = data("image/svg+xml", SVG)
CELLS = {
    "block list": (code('#| fig-subcap:\n#|   - "a"\nx'), "a list in block form"),
    "bare directive": (code("#| export\nx"), "must read `#| key: value`"),
    "unquoted colon": (code("#| fig-cap: a: b\nx", IMAGE), "quote"),
    "backslash": (code('#| fig-cap: "$\\tau$"\nx', IMAGE), "single quotes"),
    "late option": (code("x = 1\n#| echo: false"), "first lines of the cell"),
    "unknown option": (code("#| fig-width: 3\nx"), "option fig-width is not supported"),
    "hide": (code("#| hide: true\nx"), "option hide"),
    "fenced": (code("#| echo: fenced\nx"), "option echo: fenced"),
    "no prefix": (code('#| label: plot\n#| fig-cap: "c"\nx', IMAGE), "no known prefix"),
    "no caption": (code("#| label: fig-a\nx", IMAGE), "needs fig-cap"),
    "two labels": (code('#| label: fig-a\n#| fig-cap: "c"\n#| lst-label: lst-a\n'
                        '#| lst-cap: "c"\nx', IMAGE), "label and lst-label"),
    "no picture": (code('#| label: fig-a\n#| fig-cap: "c"\nx'), "without a stored picture"),
    "two pictures": (code('#| label: fig-a\n#| fig-cap: "c"\nx', IMAGE, IMAGE), "2 pictures"),
    "list in fig-cap": (code('#| fig-cap: ["a", "b"]\nx', IMAGE, IMAGE), "a list in fig-cap"),
    "sub-captions": (code('#| label: fig-a\n#| fig-cap: "c"\n#| fig-subcap: ["a", "b"]\nx', IMAGE),
                     "1 pictures and 2 sub-captions"),
    "html": (code("x", data("text/html", "<b>x</b>")), "text/html"),
    "widget": (code("x", data("application/vnd.jupyter.widget-view+json", {})), "widget"),
    "progress bar": (code("x", stream("1\r2\n")), "carriage returns"),
    "raises": (code("x", {"output_type": "error", "traceback": ["E"]}), "needs eval: false"),
    "shortcode": (code("x = '{{< meta y >}}'"), "a shortcode inside code"),
    "annotation": (code("x = 1  # <1>"), "annotations"),
}


@pytest.mark.parametrize("name", CELLS)
def test_fault_in_code_cell_is_found(name, tmp_path):
    cell, message = CELLS[name]
    where = [p for p in checks.check_book(write_book(tmp_path, cell)) if message in p.message]
    assert where and where[0].file == "one.ipynb" and where[0].place.startswith("cell 2")


def test_directives_of_nbdev_and_exercises_leave_no_trace(tmp_path):
    cells = [code(f"#| {line}\nx = 1") for line in
             ("export: true", "exports: true", "default_exp: rnn", "gpu: true", "notest: true",
              "exercise: rnn", "solution: rnn")]
    folder = write_book(tmp_path, *cells)
    assert found(folder) == []
    assert "#|" not in page(folder) and page(folder).count("cell-code") == len(cells)


# -- faults of a page and of the book
PAGES = {
    "no title": (dict(title=""), "no # heading"),
    "unnumbered title": (dict(title="# One {.unnumbered}"), "ignores .unnumbered"),
    "cited title": (dict(title="# One of @key"), "a citation in a chapter's title"),
}


@pytest.mark.parametrize("name", PAGES)
def test_fault_of_title_is_found(name, tmp_path):
    options, message = PAGES[name]
    assert any(message in p for p in found(write_book(tmp_path, words("x"), **options)))


def test_title_in_front_matter_is_found(tmp_path):
    front = {"cell_type": "raw", "source": "---\ntitle: T\nodd: 1\n---", "metadata": {}}
    messages = " ".join(found(write_book(tmp_path, front)))
    assert "counts twice" in messages and "front matter: odd is not supported" in messages


BOOK = {
    "See @fig-none.": "reference @fig-none points to no label",
    "See [@fig-both; @key].": "a reference and a citation",
    "See @nobody.": "no entry nobody in the bibliography",
    "See [@sec-one, too].": "text after @sec-one inside the brackets is lost",
    "## A {#sec-a}\n\n## B {#sec-a}": "label sec-a is used twice",
    "[x](two.ipynb)": "no such page",
    "[x](#nowhere)": "link to #nowhere: no such place",
    "[x](index.qmd#elsewhere)": "index.html#elsewhere: no such place",
    "![x](none.svg)": "there is no file none.svg",
    '<img src="https://example.org/a.png">': "would fetch https://example.org/a.png",
    '<p style="background: url(//example.org/b.png)">x</p>': "would fetch //example.org/b.png",
    "$\\frac{1}{$": "Could not convert TeX math",
    "{{< video x >}}": "shortcode video is not supported",
    "{{< meta nothing >}}": "'nothing' is not defined",
    "{{< include _none.md >}}": "no file _none.md",
    "::: {.content-hidden}\nx\n:::": ".content-hidden is not supported",
    "::: {.callout-note colour=red}\nx\n:::": "callout option colour",
    "::: {.callout-note}\nx\n\n## Late\n:::": "a heading inside a box",
    "::: {.panel-tabset}\nx\n:::": "must begin with a heading",
    "Text ![a](a.svg){#fig-a} text.": "a picture inside a sentence",
}


@pytest.fixture(scope="module")
def faulty_book(tmp_path_factory):
    "Problems of one book with all these faults, one in each cell."
    folder = write_book(tmp_path_factory.mktemp("faulty"), *map(words, BOOK))
    return build.Book(folder).render().problems


@pytest.mark.parametrize("text", BOOK)
def test_fault_in_book_is_found_with_its_place(text, faulty_book):
    hits = [p for p in faulty_book if BOOK[text] in p.message]
    cell = list(BOOK).index(text) + 2
    assert [(p.file, p.place.split(" line")[0]) for p in hits] == [("one.ipynb", f"cell {cell}")]


def test_unknown_keys_of_the_project_are_refused(tmp_path):
    config = "website:\n  x: 1\nedition: first\nformat:\n  pdf: default\n  html:\n    odd: 1\n"
    messages = " ".join(found(write_book(tmp_path, words("{{< meta edition >}}"), config=config)))
    for key in ("key website is", "format: pdf is", "format: html: odd is"):
        assert key in messages
    assert "edition" not in messages


def test_bibliography_without_a_list_of_works_is_found(tmp_path):
    folder = write_book(tmp_path)
    (folder / "references.qmd").write_text("# References {.unnumbered}\n", encoding="utf-8")
    assert found(folder) == ["_quarto.yml: no page holds the list of works, ::: {#refs}"]


def test_missing_project_is_named(tmp_path):
    with pytest.raises(problems.BookError, match=r"no _quarto\.yml there"):
        build.Book(tmp_path)


# -- pages
def test_solution_callout_crosses_cells(tmp_path):
    folder = write_book(
        tmp_path, words("::: {#exr-sum}\n## Sum\nAdd.\n:::"),
        words('::: {.callout-note .solution collapse="true"}\n## Solution\nSo:'),
        code("#| solution: sum\nsum([1])", stream("right: 1\n")), words(":::\n\nBy @exr-sum."))
    assert found(folder) == []
    html = page(folder)
    box = html[html.index("<details"):html.index("</details>")]
    assert "callout-note solution" in box and "right: 1" in box and "Exercise\xa01.1" in html


def test_caption_that_looks_like_a_list_stays_a_caption(tmp_path):
    cell = code('#| label: fig-a\n#| fig-cap: "(a) One. (b) Two."\n#| fig-alt: "Dots."\nx', IMAGE)
    html = page(write_book(tmp_path, cell))
    assert "(a) One. (b) Two.</figcaption>" in re.sub(r"\s+(?=</)", "", html)
    assert 'alt="Dots."' in html


def test_two_builds_are_equal_and_a_failed_check_writes_nothing(tmp_path, capsys):
    folder = write_book(tmp_path, words("Good."))
    assert command.main(["--renderer", "pandoc", str(folder)]) == 0
    before = {p: p.read_bytes() for p in (folder / "_book").rglob("*") if p.is_file()}
    assert command.main(["--renderer", "pandoc", str(folder)]) == 0
    assert before == {p: p.read_bytes() for p in (folder / "_book").rglob("*") if p.is_file()}
    write_book(folder, words("See @fig-none."))
    assert command.main(["--check", str(folder)]) == 1
    assert "one.ipynb cell 2" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in (folder / "_book").rglob("*") if p.is_file()}


def test_pages_and_scripts_name_no_address_of_a_network(tmp_path):
    files = build.Book(write_book(tmp_path, words("Text."))).render().files
    own = {n: t.decode() for n, t in files.items() if n.endswith((".html", ".css", ".js"))}
    for name, text in own.items():
        fetched = r"(?:src|<link[^>]*href)=\"(?:https?:)?//|url\(|@import|fetch"
        assert not re.search(fetched, text.replace("http://www.w3.org/", "")), name


def luminance(colour):
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_contrast_of_text_in_both_themes():
    css = (ROOT / "tools" / "book" / "assets" / "book.css").read_text(encoding="utf-8")
    pairs = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", css))
    assert pairs["page"] == "#ffffff, #1b1e23"
    surfaces, lines = ("page", "soft"), ("line", "mark")
    texts = [(name, s) for name in set(pairs) - {*surfaces, *lines} for s in surfaces]
    for name, surface in [*texts, ("text", "mark")]:
        for a, b in zip(pairs[name].split(", "), pairs[surface].split(", "), strict=True):
            low, high = sorted((luminance(a), luminance(b)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, surface, a, b)


# -- this book
def test_sources_of_this_book_have_no_known_fault():
    if not (ROOT / "_quarto.yml").exists():
        pytest.skip("no _quarto.yml")
    assert [str(p) for p in checks.check_book(ROOT)] == []
