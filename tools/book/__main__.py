"""Render the book of a project.

    python -m tools.book                 # to _book, with Quarto if it is on PATH
    python -m tools.book --renderer pandoc --out site some/book
    python -m tools.book --check         # list what is wrong; exit status 1 if anything is
"""
import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import build
from .problems import BookError


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.book", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", default=".", type=Path, help="folder with _quarto.yml")
    parser.add_argument("--out", type=Path, help="where the site goes (default: ROOT/_book)")
    parser.add_argument("--check", action="store_true",
                        help="fail if anything is wrong; the site is then left as it was")
    parser.add_argument("--renderer", choices=("auto", "quarto", "pandoc"), default="auto")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    root, start = options.root.resolve(), time.perf_counter()
    out = (options.out or root / "_book").resolve()
    quarto = shutil.which("quarto")
    if options.renderer == "quarto" and not quarto:
        print("quarto is not on PATH", file=sys.stderr)
        return 2
    if quarto and options.renderer != "pandoc" and not options.check:
        return subprocess.run([quarto, "render", str(root), "--output-dir", str(out)]).returncode
    try:
        book = build.Book(root).render()
        for problem in sorted(set(book.problems)):
            print(problem, file=sys.stderr)
        if options.check and book.problems:
            print(f"{len(set(book.problems))} problems", file=sys.stderr)
            return 1
        if options.check:
            print(f"{len(book.pages)} pages, no problems")
            return 0
        build.save(book, out)
    except BookError as error:
        print(error, file=sys.stderr)
        return 2
    seconds = time.perf_counter() - start
    print(f"{len(book.pages)} pages in {seconds:.1f} s; open {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
