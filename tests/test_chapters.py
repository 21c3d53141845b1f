"""The chapter runner on made-up notebooks, and its rules on the source of the real chapters."""

import json
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import tools.chapters.__main__ as command_line  # noqa: E402
from tools.chapters import compare, exercises, lint, notebook, outline, outputs  # noqa: E402

NBS = sorted((ROOT / "nbs").glob("*.ipynb"))
MODULES = lint.modules_of([notebook.read(path) for path in NBS])


def md(source: str) -> dict:
    return {"cell_type": "markdown", "id": "m", "metadata": {}, "source": source}


def code(source: str, *shown: dict) -> dict:
    cell = {"cell_type": "code", "execution_count": None, "id": "c", "metadata": {}}
    return {**cell, "outputs": list(shown), "source": source}


def stdout(text: str, name: str = "stdout") -> dict:
    return {"name": name, "output_type": "stream", "text": text}


def shown(kind: str = "execute_result", **data: str) -> dict:
    names = {"plain": "text/plain", "svg": "image/svg+xml", "md": "text/markdown"}
    names |= {"html": "text/html", "png": "image/png"}
    output = {"data": {names[k]: v for k, v in data.items()}, "metadata": {}, "output_type": kind}
    return output | ({"execution_count": None} if kind == "execute_result" else {})


def chapter(*cells: dict, path: Path | str = "nbs/05-made-up.ipynb") -> notebook.Chapter:
    cells = [dict(cell, id=f"cell{n:04}") for n, cell in enumerate(cells, 1)]
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    rest = {"metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return notebook.parse(json.dumps({**rest, "cells": cells}), path)


def exercise(name: str, solution: str = "solution") -> list[dict]:
    return [
        md(f"::: {{#exr-{name}}}\n## Twice\nWrite it.\n:::"),
        code(f"#| exercise: {name}\nprint('not yet: expected 4, got None')"),
        md('::: {.callout-tip collapse="true"}\n## Hint\nAdd.\n:::'),
        md(f'::: {{.callout-note .{solution} collapse="true"}}\n## Solution\nAdd it.'),
        code(f"#| solution: {name}\nprint('right: 4')"),
        md(":::"),
    ]


def words_exercise(name: str) -> list[dict]:
    answer = '::: {.callout-note .solution collapse="true"}\n## Solution\nBecause.\n:::'
    return [md(f"::: {{#exr-{name}}}\n## Why\nWhy?\n:::"), md(answer + "\n\nWords that stay.")]


GOOD = [
    code("#| default_exp: window"),
    code("#| export: true\nimport numpy as np\nfrom rnntext.backend import fresh"),
    code("fresh(seed=1)"),
    md("# Made up {#sec-made-up}\n\nWords."),
    code("x = np.ones((2, 3))\nx.shape", shown(plain="(2, 3)")),
    md("A figure."),
    code(
        '#| label: fig-a\n#| fig-cap: "A"\n#| fig-alt: "A line from 0 to 1."\n'
        "#| code-fold: true\nf()",
        shown("display_data", svg="<svg/>", plain="A line from 0 to 1."),
    ),
    *exercise("one"),
    *exercise("two"),
    *words_exercise("three"),
    *words_exercise("four"),
]


# Rules over the source


@pytest.mark.parametrize("path", NBS, ids=lambda path: path.stem)
def test_source_of_chapter(path):
    found = lint.lint_chapter(notebook.read(path), MODULES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", NBS, ids=lambda path: path.stem)
def test_student_copy_has_no_solution(path):
    text = notebook.dump(exercises.student_copy(notebook.read(path)))
    assert "#| solution:" not in text and ".solution" not in text


def lint_with(*extra: dict, cells=GOOD, path="nbs/05-made-up.ipynb") -> str:
    modules = {"backend": "00-one", "window": "05-made-up", "rnn": "06-recurrent-networks"}
    return "\n".join(lint.lint_chapter(chapter(*cells, *extra, path=path), modules))


def test_good_chapter_has_no_findings():
    assert lint_with() == ""
    assert exercises.counts(chapter(*GOOD)) == []


ERROR = {"ename": "ValueError", "evalue": "no", "output_type": "error", "traceback": []}
FAULTS = {
    "bare directive": (code("#| export\nx = 1"), "expected `#| key: value`"),
    "no space": (code("#|export: true\nx = 1"), "expected `#| key: value`"),
    "list in block form": (code('#| fig-alt:\n#|   - "a"\nx = 1'), "expected `#| key: value`"),
    "tolerance": (code("#| tolerance: some\nx"), "tolerance must be"),
    "cupy": (code("import cupy as cp"), "imports cupy"),
    "cupyx, late": (code("def f():\n    from cupyx.scipy import special"), "imports cupy"),
    "cupy by name": (code("importlib.import_module('cupy')"), "imports cupy"),
    "star": (code("#| export: true\nfrom math import *"), "from math import *"),
    "higher chapter": (code("from rnntext.rnn import RNN"), "of 06-recurrent-networks"),
    "higher, as a module": (code("from rnntext import rnn"), "of 06-recurrent-networks"),
    "higher, dotted": (code("import rnntext.rnn as r"), "of 06-recurrent-networks"),
    "higher, relative": (code("from .rnn import RNN"), "of 06-recurrent-networks"),
    "itself": (code("from rnntext.window import x"), "of 05-made-up"),
    "unknown module": (code("from rnntext.windows import x"), "no chapter makes"),
    "long line": (code("x = " + "1 + " * 25 + "1"), "a line of 105 characters"),
    "long cell": (code("\n".join("x = 1" for _ in range(41))), "41 lines"),
    "html": (code("x", shown(html="<b>x</b>", plain="x")), "text/html"),
    "error": (code("x", ERROR), "raised ValueError: no"),
    "stderr": (code("x", stdout("Warning!\n", "stderr")), "wrote to stderr"),
    "address": (code("x", shown(plain="<object at 0x7f12ab34cd56>")), "address"),
    "path": (code("x", stdout(f"{ROOT}/nbs/x\n")), "path of this machine"),
    "home": (code("x", stdout("/home/ada/nbs/x\n")), "path of this machine"),
    "no fig-cap": (
        code('#| label: fig-b\n#| fig-alt: "b"\nf()', shown("display_data", svg="<svg/>")),
        "figure without fig-cap",
    ),
    "no label": (code("f()", shown("display_data", png="iVBO", plain="b")), "without label"),
    "wrong label": (
        code('#| label: b\n#| fig-cap: "b"\n#| fig-alt: "b"\nf()', shown(svg="<svg/>")),
        "begins with fig-",
    ),
    "no solution": (code("#| exercise: one-more\nx"), "one-more has no solution"),
    "no div": (code("#| exercise: one-more\nx"), "no div"),
    "no exercise": (code("#| solution: one-more\nx"), "one-more has no exercise"),
    "open solution": (code("#| solution: one-more\nx"), "outside a .solution callout"),
    "second stub": (code("#| exercise: one\nx"), "a second exercise one"),
    "endless solution": (md("::: {.callout-note .solution}\nx"), "never closed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(fault):
    cell, words = FAULTS[fault]
    found = lint_with(cell)
    assert words in found
    where = "" if "callout" in cell["source"] else f" cell {len(GOOD) + 1} (cell"
    assert f"nbs/05-made-up.ipynb:{where}" in found


def test_fresh_within_the_first_three_code_cells():
    without = [cell for cell in GOOD if "seed=1" not in cell["source"]]
    assert "calls fresh()" in lint_with(cells=without)
    assert "calls fresh()" in lint_with(cells=[code("x = 1"), *GOOD])
    assert "calls fresh()" not in lint_with(cells=[code("%matplotlib inline"), *GOOD[1:]])


def test_three_code_cells_in_a_row_need_words():
    one, hidden = code("x = 1"), code("#| include: false\nx = 1")
    assert "in a row" in lint_with(one, one, one)
    assert "in a row" in lint_with(one, one, hidden, one)
    assert lint_with(one, one, hidden, hidden) == ""
    assert lint_with(one, one, md("Words."), one, code("#| code-fold: true\nx")) == ""


def test_what_the_rules_allow():
    assert lint_with(code("import cupy"), path="nbs/00-one.ipynb", cells=GOOD[2:]) == ""
    assert lint_with(code("#| eval: false\nx", ERROR, stdout("at 0x7f12ab34cd56"))) == ""
    assert lint_with(dict(code("x", ERROR), metadata={"tags": ["raises-exception"]})) == ""
    assert lint_with(code("#| warning: true\nx", stdout("meant\n", "stderr"))) == ""
    assert lint_with(code("import rnntext\nfrom rnntext.backend import tanh\n'rnntext.rnn'")) == ""
    writes_fresh = [GOOD[0], md("#"), GOOD[4], md("-"), GOOD[4], md("-"), code("def fresh(): pass")]
    assert lint_with(cells=writes_fresh) == ""
    assert lint_with(code("x", stdout("0x9e3779b9 of https://example.org/home/x\n"))) == ""


def test_counts_of_exercises():
    assert "3 exercises" in exercises.counts(chapter(*GOOD[:-2]))[0][1]
    one = [*GOOD[:7], *exercise("one"), *(c for n in "abc" for c in words_exercise(n))]
    assert exercises.counts(chapter(*one)) == [(0, "1 coded exercises, at least 2 expected")]


def test_spine_and_words():
    text = "## Summary {.unnumbered}\n\nTwo *words*, $x_t$ `code` [see](a.md) [@elman1990].\n"
    text += "\n```python\nnot words\n```\n\n$$\nnone\n$$ {#eq-x}\n\n::: {.callout-note}\nthree\n:::"
    made = chapter(md(text))
    assert lint.headings(made) == ["Summary"]
    assert "Summary" not in lint.missing_spine(made) and "Exercises" in lint.missing_spine(made)
    assert lint.words(made) == 5  # Summary Two words see three


# Which chapters


def test_outline(tmp_path):
    (tmp_path / "nbs").mkdir()
    names = ["00-a", "00b-b", "03-c", "90-d"]
    for name in names:
        (tmp_path / f"nbs/{name}.ipynb").write_text("{}")
    (tmp_path / "_quarto.yml").write_text(
        "book:\n  chapters:\n    - index.qmd\n    - part: part.qmd\n      chapters:\n"
        "        - nbs/03-c.ipynb\n    - nbs/00-a.ipynb\n  appendices:\n    - nbs/90-d.ipynb\n"
    )
    assert [p.stem for p in outline.listed(tmp_path)] == ["03-c", "00-a", "90-d"]
    assert [p.stem for p in outline.select([], tmp_path, all_of_them=True)] == names
    wanted = ["03", "nbs/00b-b.ipynb", "90-d", "03-c"]
    assert [p.stem for p in outline.select(wanted, tmp_path)] == ["03-c", "00b-b", "90-d"]
    assert {p.stem for p in outline.appendices(tmp_path)} == {"90-d"}
    with pytest.raises(ValueError, match="00b-b"):
        outline.select(["17"], tmp_path)
    (tmp_path / "nbs/90-d.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match="90-d"):
        outline.listed(tmp_path)


# Files and directives


def test_a_file_written_twice_is_the_same(tmp_path):
    path = tmp_path / "a.ipynb"
    made = chapter(*GOOD, code("", shown("display_data", png="iVBO\nRw0K", svg="<svg>\n</svg>\n")))
    assert notebook.write(made, path) and not notebook.write(notebook.read(path), path)
    stored = json.loads(path.read_text())["cells"][-1]["outputs"][0]["data"]
    assert stored == {"image/png": "iVBO\nRw0K", "image/svg+xml": ["<svg>\n", "</svg>\n"]}


@pytest.mark.parametrize("path", NBS, ids=lambda path: path.stem)
def test_chapter_is_stored_as_nbdev_clean_leaves_it(path):
    assert notebook.dump(notebook.read(path)) == path.read_text(encoding="utf-8")


def test_directives():
    cell = code('#| label: fig-a\n#| fig-cap: "a: b"\n#| export\n\n#| not: one\nx = 1')
    assert notebook.directives(cell) == {"label": "fig-a", "fig-cap": '"a: b"', "export": "true"}
    assert notebook.code(cell) == "#| not: one\nx = 1"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("#| label: fig-a\nf()", "#| label: fig-a\n#| fig-alt: {}\nf()"),
        (
            "#| fig-cap: c\n#| echo: false\nf()",
            "#| fig-cap: c\n#| fig-alt: {}\n#| echo: false\nf()",
        ),
        ("#| fig-alt: old\n#| label: fig-a\nf()", "#| fig-alt: {}\n#| label: fig-a\nf()"),
        (
            "#| fig-alt: >\n#|   old\n#|   too\n#| echo: false\nf()",
            "#| fig-alt: {}\n#| echo: false\nf()",
        ),
        ("f()", "#| fig-alt: {}\nf()"),
        ("#| include: false\nf()", "#| include: false\nf()"),
    ],
)
def test_fig_alt_line(before, after):
    alt = 'Two "lines" at $\\tau$:\n0.5 and 1 # end'
    cell = code(before, shown("display_data", svg="<svg/>", plain=alt))
    cell["source"] = outputs.with_alts(cell)
    assert cell["source"] == after.format('"Two \\"lines\\" at $\\\\tau$: 0.5 and 1 # end"')
    if "{}" in after:
        assert outputs.written_alts(cell) == [" ".join(alt.split())]
    assert outputs.with_alts(cell) == cell["source"]


def test_fig_alt_of_two_figures_and_of_none():
    a, b = (shown("display_data", svg="<svg/>", plain=text) for text in "ab")
    assert outputs.with_alts(code("f()", a, b)) == '#| fig-alt: ["a", "b"]\nf()'
    foreign = shown("display_data", svg="<svg/>", plain="<Figure size 2x1 with 1 Axes>")
    assert outputs.with_alts(code("f()", foreign)) == "f()"


def test_streams_are_merged_in_one_order():
    loose = [stdout("w\n", "stderr"), stdout("a"), stdout("b\n"), shown(plain="1"), stdout("c")]
    done = outputs.normalised(code("x"), loose)
    assert [o.get("text") for o in done] == ["ab\n", "w\n", None, "c"]
    done = outputs.normalised(code("#| warning: false\nx"), loose)
    assert [o.get("text") for o in done] == ["ab\n", None, "c"]


# Comparison


def differs(a: str, b: str, tolerance=None) -> bool:
    return bool(compare.text_difference(a, b, tolerance))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("loss 0.500 after 3 epochs", "loss 0.520 after 3  epochs"),
        ("[ 1.   2.5 -3. ]", "[1.01 2.5  -3.02]"),
        ("| a |  b |\n|---|---:|\n| 9.9 | x |", "| a | b |\n|-----|---:|\n| 10.1 | x |"),
        ("error 3.2e-09", "error 8.1e-11"),
        ("error 0.0", "error 2e-16"),
        ("1,234 words, 12%", "1,250 words, 12%"),
        ("nan inf", "nan inf"),
        ("It ends at 5.", "It ends at 5.1."),
        ("x − 1, −0.50", "x − 1, −0.51"),
    ],
)
def test_texts_that_say_the_same(a, b):
    assert not differs(a, b) and not differs(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("loss 0.500", "loss 0.530"),
        ("loss 0.500", "loss -0.500"),
        ("loss 0.500", "loss nan"),
        ("loss 0.500", "los 0.500"),
        ("float32", "float64"),
        ("h_19", "h_20"),
        ("shape (64, 128)", "shape (64, 129)"),
        ("2018-01-05", "2018-01-06"),
        ("version 1.25.0", "version 1.25.1"),
        ("error 3e-09", "error 9e-06"),  # more than a factor of 1000
        ("error 1e-10", "error 4e-07"),
        ("error 0.0", "error 1e-07"),
        ("error 9e-06", "error 2e-05"),
        ("3 of 10", "4 of 10"),
        ("1 2", "1 2 3"),
        ("True", "False"),
    ],
)
def test_texts_that_differ(a, b):
    assert differs(a, b) and differs(b, a)


def test_tolerance_of_a_cell():
    assert not differs("0.5 x", "0.59 x", 0.2) and differs("0.5 x", "0.59 y", 0.2)
    assert not differs("0.5 (64, 2)", "9 (65, 2)", "any") and differs("0.5", "nan", "any")
    assert not differs("a", "b", "kind")
    assert compare.tolerance_of(code("#| tolerance: 0.2\nx")) == 0.2
    for wrong in ("2", "-1", "nan", "much"):
        with pytest.raises(ValueError, match="tolerance"):
            compare.tolerance_of(code(f"#| tolerance: {wrong}\nx"))


def cell_difference(old: dict, new: dict) -> str:
    return "\n".join(compare.cell_differences(old, new))


def test_outputs_of_other_kinds_differ():
    text, figure = stdout("1\n"), shown("display_data", svg="<svg/>", plain="A dot at 1.")
    assert "outputs were" in cell_difference(code("x", text), code("x"))
    assert "outputs were" in cell_difference(code("x"), code("x", text))
    assert "outputs were" in cell_difference(code("x", shown(plain="1")), code("x", text))
    bare = shown("display_data", plain="A dot at 1.")
    assert "outputs were" in cell_difference(code("x", figure), code("x", bare))
    gone = cell_difference(code("x", shown(md="a | 1")), code("x", shown(md="a | 2")))
    assert "1 became 2" in gone and "-a | 1\n    +a | 2" in gone
    assert cell_difference(code("#| gpu: true\nx", text), code("#| gpu: true\nx")) == ""


def test_stale_fig_alt_differs():
    now = shown("display_data", svg="<svg/>", plain="A dot at 2.")
    for line, words in (
        ('"A dot at 1."', "1 became 2"),
        ('"A dot at 2.04."', ""),
        ('["a", "b"]', "2 sentences for 1"),
    ):
        cell = code(f"#| fig-alt: {line}\nf()", now)
        found = cell_difference(cell, cell)
        assert (words in found) if words else found == ""


# Exercises


def test_checks_after_a_run():
    stub = code("#| exercise: one\nx", stdout("right: 4"))
    solved = code("#| solution: one\nx", shown(md="not yet: expected 4, got 5"))
    found = exercises.unexpected_checks(chapter(stub, solved))
    assert [number for number, _ in found] == [1, 2]
    assert "expected 'not yet'" in found[0][1] and "expected 'right'" in found[1][1]
    assert exercises.unexpected_checks(chapter(code("#| exercise: one\nx")))[0][1].count("nothing")
    stub["outputs"], solved["outputs"] = [stdout("not yet: 4")], [stdout("right: 4")]
    assert exercises.unexpected_checks(chapter(stub, solved)) == []


def test_student_copy():
    inner = md(
        "Kept before.\n\n::: {.callout-note .solution}\n::: {.inner}\nGone.\n:::\n"
        "```\n:::\n```\nGone too.\n:::\n\nKept after."
    )
    copy = exercises.student_copy(chapter(*GOOD, inner))
    sources = [cell["source"] for cell in copy.cells]
    assert sum("exercise:" in s for s in sources) == 2 and sum("## Hint" in s for s in sources) == 2
    assert not any("solution" in s.lower() or "Gone" in s for s in sources)
    assert sources[-1] == "Kept before.\n\nKept after." and "Words that stay." in sources
    assert all(cell.get("outputs", []) == [] for cell in copy.cells)
    with pytest.raises(ValueError, match="outside"):
        exercises.student_copy(chapter(code("#| solution: a\nx")))


# Running. Each of these starts one kernel.

run = pytest.importorskip("tools.chapters.run", reason="nbclient and ipykernel are not installed")

BODY = [
    code("#| default_exp: window"),
    code(
        "def fresh(seed): pass\nimport os\n"
        "class Figure:\n"
        "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        return {'image/svg+xml': '<svg/>\\n', 'text/plain': 'A \"dot\" at 0.5.'}"
    ),
    code("fresh(seed=1)"),
    md("# Made up"),
    code(
        "import sys, warnings\nprint('a', end='', flush=True)\nprint('b', 1 / 3)\n"
        "[os.environ.get(k) for k in ('OMP_NUM_THREADS', 'RNNTEXT_OFFLINE', 'PYTHONHASHSEED')]"
    ),
    code('#| label: fig-a\n#| fig-cap: "A"\nFigure()'),
    code("#| eval: false\n1 / 0", ERROR),
    *GOOD[7:],
    code("os.path.basename(os.getcwd())"),
]


def runs(path: Path, **options) -> tuple[list[str], str]:
    lines: list[str] = []
    found = run.run_chapters([path], say=lambda text, **_: lines.append(text), **options)
    return found, "\n".join(lines)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("book") / "nbs" / "05-made-up.ipynb"
    path.parent.mkdir()
    notebook.write(chapter(*BODY), path)
    found, said = runs(path, saving=True, timeout=60)
    assert found == [] and "05-made-up" in said and said.endswith(": written")
    return path, path.read_text(encoding="utf-8")


def test_saved_chapter(saved):
    done = notebook.parse(saved[1], saved[0])
    cells = [cell for _, cell in done.code_cells()]
    assert cells[3]["outputs"] == [
        stdout("ab 0.3333333333333333\n"),
        shown(plain="['1', '1', '0']"),
    ]
    assert '#| fig-alt: "A \\"dot\\" at 0.5."' in cells[4]["source"]
    assert cells[5]["outputs"] == [ERROR]  # eval: false keeps what it has
    assert cells[-1]["outputs"] == [shown(plain="'nbs'")]
    assert json.loads(saved[1])["metadata"].keys() == {"kernelspec"}


def test_run_compares_with_what_is_stored(saved, monkeypatch):
    path, text = saved
    stale = text.replace("ab 0.333", "ab 0.433").replace('dot\\\\\\" at 0.5', 'dot\\\\\\" at 0.6')
    path.write_text(stale, encoding="utf-8")
    runs_kept = []
    real = run.execute.run
    monkeypatch.setattr(
        run.execute, "run", lambda *a, **k: runs_kept.append(real(*a, **k)) or runs_kept[-1]
    )
    found, said = runs(path, timeout=60)
    assert path.read_text(encoding="utf-8") == stale
    assert len(found) == 2 and "0.4333333333333333 became 0.3333333333333333" in found[0]
    assert "fig-alt: 0.6 became 0.5" in found[1]
    assert "cell 5 (cell0005) `import sys, warnings`" in found[0] and found[0] in said
    # Saving what this run made gives the file of the run before.
    assert run.save(runs_kept[0]) == "written" and path.read_text(encoding="utf-8") == text
    # A chapter that was edited meanwhile is left alone.
    path.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="changed while it ran"):
        run.save(runs_kept[0])


def test_a_chapter_out_of_time(tmp_path):
    path = tmp_path / "05-made-up.ipynb"
    made = chapter(code("print('kept')"), code("import time\ntime.sleep(60)"), code("1 / 0"))
    notebook.write(made, path)
    before, threads = path.read_text(), threading.active_count()
    found, _ = runs(path, saving=True, timeout=1, unfinished=frozenset({"05"}))
    assert len(found) == 1 and "cell 2" in found[0] and "takes more than 1 s" in found[0]
    assert path.read_text() == before and threading.active_count() <= threads + 1


# Commands around


def test_environment(monkeypatch):
    monkeypatch.setenv("RNNTEXT_SCALE", "full")
    monkeypatch.setenv("RNNTEXT_SHARED_DATA", "/data")
    assert "RNNTEXT_SCALE" not in run.execute.environment(save=True)
    assert run.execute.environment()["RNNTEXT_SCALE"] == "full"
    assert run.execute.environment()["RNNTEXT_SHARED_DATA"] == "/data"
    monkeypatch.delenv("RNNTEXT_SCALE")
    monkeypatch.delenv("RNNTEXT_OFFLINE", raising=False)
    published = run.execute.environment(full=True)
    assert published["RNNTEXT_SCALE"] == "full" and "RNNTEXT_OFFLINE" not in published


def test_student_folder(tmp_path):
    root = tmp_path / "book"
    path = root / "nbs/05-made-up.ipynb"
    (root / "nbs/images").mkdir(parents=True)
    (root / "nbs/images/a.svg").write_text("<svg/>")
    notebook.write(chapter(*GOOD), path)
    written = run.student(root / "_book/student", root, [path])
    assert [p.relative_to(root).as_posix() for p in written] == ["_book/student/05-made-up.ipynb"]
    assert (root / "_book/student/images/a.svg").is_file()
    assert lint.lint_chapter(notebook.read(written[0]), {"backend": "00"}) != []  # stubs only
    for wrong in ("nbs", "student", "."):
        with pytest.raises(ValueError, match="_book"):
            run.student(root / wrong, root, [path])


def test_command_line(capsys, monkeypatch, tmp_path):
    path = tmp_path / "05-made-up.ipynb"
    notebook.write(chapter(*GOOD[2:], code("import cupy")), path)
    monkeypatch.setattr(outline, "select", lambda *_, **__: [path])
    monkeypatch.setattr(outline, "every", lambda *_: [path])
    assert command_line.main(["lint", "05"]) == 1
    said = capsys.readouterr()
    assert "imports cupy" in said.out and "no heading" in said.out and "1 findings" in said.err
