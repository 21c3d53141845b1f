"""The commands that execute chapters: compare, save, full, prepare."""

import hashlib
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import compare, execute, exercises, lint, notebook, outputs
from .execute import Run
from .notebook import Chapter

WARN_SECONDS = 60


def findings(done: Run, *, save: bool) -> list[str]:
    "What is wrong with a run; without `save` also how it differs from what is stored."
    chapter, found = done.chapter, []
    if done.failure:
        return [_sentence(chapter, *done.failure)]
    new = Chapter(chapter.path, done.cells, chapter.rest, chapter.text)
    for (number, old), (_, cell) in zip(chapter.code_cells(), new.code_cells(), strict=True):
        found += [_sentence(chapter, number, text) for text in outputs.problems(cell)]
        try:
            differences = [] if save else compare.cell_differences(old, cell)
        except ValueError as error:  # a directive that cannot be read
            differences = [" ".join(str(error).split())]
        found += [_sentence(chapter, number, text) for text in differences]
    found += [_sentence(chapter, *finding) for finding in exercises.unexpected_checks(new)]
    return found


def structure(chapter: Chapter, unfinished: frozenset[str], appendix: bool) -> list[str]:
    found = exercises.pairs(chapter)
    if chapter.number not in unfinished and not appendix:
        found += exercises.counts(chapter)
    return [_sentence(chapter, *finding) for finding in found]


def _sentence(chapter: Chapter, number: int, text: str) -> str:
    return lint.sentence(chapter, number, text)


def save(done: Run) -> str:
    "Write outputs and `fig-alt` lines of a run back; says what happened."
    chapter = done.chapter
    if chapter.path.read_text(encoding="utf-8") != chapter.text:
        raise RuntimeError(f"{chapter.path.name} changed while it ran: not written, run it again")
    for cell in done.cells:
        if notebook.runs(cell):
            cell["source"] = outputs.with_alts(cell)
    new = Chapter(chapter.path, done.cells, chapter.rest, chapter.text)
    return "written" if notebook.write(new) else "unchanged"


def times(done: Run) -> str:
    "`03-gradients 12.3 s (cell 7 8.1 s, cell 9 2.0 s)`."
    slowest = sorted(done.cell_seconds.items(), key=lambda item: -item[1])[:3]
    named = [f"cell {n} {s:.1f} s" for n, s in slowest if s >= 0.5]
    return f"{done.chapter.name} {done.seconds:.1f} s" + (f" ({', '.join(named)})" if named else "")


def run_chapters(
    paths: list[Path],
    *,
    jobs: int = 2,
    timeout: float = 300,
    saving: bool = False,
    unfinished: frozenset[str] = exercises.UNFINISHED,
    appendices: set[Path] = frozenset(),
    say=print,
) -> list[str]:
    "Run the chapters, a few at a time; compare or save; all findings."
    env = execute.environment(save=saving)
    found: list[str] = []

    def one(path: Path) -> Run:
        return execute.run(notebook.read(path), env, timeout)

    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        for done in pool.map(one, paths):
            found += _judge(done, saving, unfinished, appendices, say)
    finally:  # an interrupted run waits for no kernel
        pool.shutdown(wait=False, cancel_futures=True)
    return found


def _judge(done: Run, saving: bool, unfinished: frozenset[str], appendices: set[Path], say) -> list:
    "Save or compare one run and say what came of it."
    wrong = findings(done, save=saving)
    state = "failed" if wrong else "same"
    if saving and not wrong:
        try:
            state = save(done)
        except (RuntimeError, ValueError) as error:
            wrong, state = [str(error)], "failed"
    wrong += structure(done.chapter, unfinished, done.chapter.path in appendices)
    say(f"{times(done)}: {state}", flush=True)
    for text in wrong:
        say(text, flush=True)
    if done.seconds > WARN_SECONDS:
        say(f"warning: {done.chapter.name} takes more than {WARN_SECONDS} s", flush=True)
    return wrong


def full(path: Path, say=print) -> list[str]:
    "Run a chapter at its published setting; its own cells store the results."

    def watch(number: int, cell: dict, seconds: float) -> None:
        say(f"{seconds:8.1f} s  {notebook.place(number, cell)}", flush=True)

    done = execute.run(notebook.read(path), execute.environment(full=True), None, watch)
    say(times(done), flush=True)
    found = [_sentence(done.chapter, *done.failure)] if done.failure else []
    for text in found:
        say(text, flush=True)
    return found


def _package(root: Path) -> Path:
    with open(root / "pyproject.toml", "rb") as file:
        settings = tomllib.load(file)
    lib = settings.get("tool", {}).get("nbdev", {}).get("lib_path")
    return root / (lib or settings["project"]["name"].replace("-", "_"))


def _state(root: Path) -> dict[str, str]:
    files = [*(root / "nbs").rglob("*.ipynb"), *_package(root).rglob("*.py")]
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)
    }


def _nbdev(command: str, root: Path) -> None:
    beside = Path(sys.executable).parent / command
    program = str(beside) if beside.exists() else shutil.which(command)
    if program is None:
        raise FileNotFoundError(f"{command} is not installed")
    subprocess.run([program], cwd=root, check=True)


def prepare(root: Path, paths: list[Path], **options) -> list[str]:
    "Export, run and save, clean; then exporting and cleaning once more must change nothing."
    _nbdev("nbdev-export", root)
    if found := run_chapters(paths, saving=True, **options):
        return found
    saved = _state(root)
    _nbdev("nbdev-clean", root)
    _nbdev("nbdev-export", root)
    after = _state(root)
    changed = sorted(k for k in saved.keys() | after.keys() if saved.get(k) != after.get(k))
    found = [f"{name}: changed by nbdev-clean or nbdev-export after saving" for name in changed]
    for text in found:
        print(text)
    return found


def student(out: Path, root: Path, paths: list[Path]) -> list[Path]:
    "Write the student copies; pictures they refer to go with them."
    out = out.resolve()
    inside = out.relative_to(root).parts if out.is_relative_to(root) else (".",)
    if not inside or inside[0][0] not in "_.":
        raise ValueError(f"{out}: nbdev would export notebooks there, expected a folder in _book/")
    copies = [exercises.student_copy(notebook.read(path)) for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    if (root / "nbs/images").is_dir():
        shutil.copytree(root / "nbs/images", out / "images", dirs_exist_ok=True)
    for copy in copies:
        notebook.write(copy, out / copy.path.name)
    return [out / copy.path.name for copy in copies]
