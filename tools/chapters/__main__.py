"""Command line: `python -m tools.chapters COMMAND`; README.md says what each does."""

import argparse
import os
import sys
from pathlib import Path

from . import exercises, lint, notebook, outline


def _numbers(text: str) -> frozenset[str]:
    return frozenset(word for word in text.split(",") if word)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.chapters", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, chapters: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if chapters:
            sub.add_argument("chapters", nargs="*", metavar="CHAPTER", help="03 or 03-gradients")
            sub.add_argument("--all", action="store_true", help="all of nbs/, not _quarto.yml")
        return sub

    run = command("run", "run chapters and compare with the stored outputs")
    run.add_argument("--save", action="store_true", help="store the outputs instead")
    prepare = command("prepare", "export, run --save, clean, and see that nothing else changes")
    for sub in (run, prepare):
        sub.add_argument("--jobs", type=int, default=2)
        sub.add_argument("--timeout", type=float, default=300, help="seconds for a chapter")
        sub.add_argument("--unfinished", type=_numbers, default=exercises.UNFINISHED,
                         help="chapters still without their exercises: 03,04")  # fmt: skip
    command("student", "copies without solutions and outputs", False).add_argument(
        "out", nargs="?", type=Path, default=outline.ROOT / "_book/student"
    )
    command("full", "run a chapter at its published setting", False).add_argument("chapter")
    command("lint", "read the source of chapters for faults; words and missing headings")
    return parser


def _lint(paths: list[Path]) -> list[str]:
    found = lint.lint(paths, outline.every())
    for text in found:
        print(text)
    for path in paths:
        chapter = notebook.read(path)
        missing = lint.missing_spine(chapter)
        without = f", no heading {'; '.join(missing)}" if missing else ""
        print(f"{chapter.name}: {lint.words(chapter)} words{without}")
    return found


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "lint":
        return _report(_lint(outline.select(given.chapters, all_of_them=given.all)))
    from . import run  # needs Jupyter's packages, lint does not

    if given.command == "student":
        print(*run.student(given.out, outline.ROOT, outline.listed()), sep="\n")
        return 0
    if given.command == "full":
        return _report(run.full(outline.select([given.chapter])[0]))
    paths = outline.select(given.chapters, all_of_them=given.all)
    options = {
        "jobs": given.jobs,
        "timeout": given.timeout,
        "unfinished": given.unfinished,
        "appendices": outline.appendices(),
    }
    if given.command == "prepare":
        return _report(run.prepare(outline.ROOT, paths, **options))
    return _report(run.run_chapters(paths, saving=given.save, **options))


def _report(found: list[str]) -> int:
    if found:
        print(f"{len(found)} findings", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        os._exit(130)  # threads wait for their kernels; kernels end with this process
