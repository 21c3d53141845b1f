"""One chapter, run once in a fresh kernel of this Python."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from . import notebook, outputs
from .notebook import Chapter
from .outline import ROOT

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
READERS_SETTINGS = ("BACKEND", "DTYPE", "PRECISION", "SEED", "SCALE")


@dataclass
class Run:
    """What came of it: the cells with their new outputs, seconds of each, and why it stopped."""

    chapter: Chapter
    cells: list[dict]
    seconds: float = 0.0
    cell_seconds: dict[int, float] = field(default_factory=dict)
    failure: tuple[int, str] | None = None  # number of the cell, what happened


def environment(*, full: bool = False, save: bool = False) -> dict[str, str]:
    "The variables a chapter sees. With `save`, settings of the shell do not reach the stored page."
    env = dict(os.environ)
    env["PYTHONHASHSEED"] = "0"
    env["TQDM_DISABLE"] = "1"
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    env["PYTHONPATH"] = os.pathsep.join(p for p in (str(ROOT), env.get("PYTHONPATH")) if p)
    env.pop("MPLBACKEND", None)
    if full:
        env["RNNTEXT_SCALE"] = "full"
        return env
    env.update(dict.fromkeys(THREADS, "1"))
    env.setdefault("RNNTEXT_OFFLINE", "1")
    if save:
        for name in READERS_SETTINGS:
            env.pop(f"RNNTEXT_{name}", None)
    return env


def _kernel_manager(folder: Path) -> AsyncKernelManager:
    "A manager that knows one kernel: this interpreter. Nothing needs to be installed."
    spec = folder / "kernels" / "chapter"
    spec.mkdir(parents=True)
    command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"]
    command += ["-f", "{connection_file}", "--HistoryManager.enabled=False"]
    words = {"argv": command, "display_name": "chapter", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(words))
    known = KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)
    manager = AsyncKernelManager(
        kernel_name="chapter",
        kernel_spec_manager=known,
        connection_file=str(folder / "connection.json"),
    )
    if os.name == "posix":  # no port is opened, none can be taken
        manager.transport, manager.ip = "ipc", str(folder / "kernel")
    return manager


def _last_words(error: CellExecutionError) -> str:
    _, _, trace = outputs.ANSI.sub("", error.traceback).partition("Traceback (most recent call")
    lines = [line for line in trace.split("\n")[1:-1] if line.strip()]
    return "\n    ".join([f"raised {error.ename}: {error.evalue}", *lines[-12:]])


def run(
    chapter: Chapter,
    env: dict[str, str],
    timeout: float | None = None,  # seconds for the whole chapter
    watch: Callable[[int, dict, float], None] = lambda number, cell, seconds: None,
) -> Run:
    "Execute the chapter; cells with `eval: false` keep what is stored."
    with tempfile.TemporaryDirectory(prefix="chapter-", ignore_cleanup_errors=True) as folder:
        env = dict(env, IPYTHONDIR=str(Path(folder) / "ipython"))
        return asyncio.run(_run(chapter, env, timeout, watch, Path(folder)))


async def _run(chapter: Chapter, env: dict, timeout: float | None, watch, folder: Path) -> Run:
    cells = outputs.plain(chapter.cells)
    done = Run(chapter, cells)
    node = nbformat.from_dict({**chapter.rest, "cells": outputs.plain(cells)})
    client = NotebookClient(node, km=_kernel_manager(folder), shutdown_kernel="immediate")
    client.iopub_timeout, client.raise_on_iopub_timeout = 60, True  # no output lost under load
    where = str(chapter.path.resolve().parent)
    async with client.async_setup_kernel(cwd=where, env=env, cleanup_kc=True):
        start = before = time.monotonic()
        for number, cell in chapter.code_cells():
            if notebook.runs(cell):
                left = None if timeout is None else timeout - (before - start)
                trouble = await _run_cell(client, number, left)
                now = time.monotonic()
                done.cell_seconds[number], before = now - before, now
                watch(number, cell, done.cell_seconds[number])
                new = node["cells"][number - 1]["outputs"]
                cells[number - 1]["outputs"] = outputs.normalised(cell, new)
                if trouble:
                    late = f"the chapter takes more than {timeout} s"
                    done.failure = number, late if trouble == "late" else trouble
                    break
            elif not notebook.says(cell, "eval", "false"):
                cells[number - 1]["outputs"] = []  # nothing but directives
        done.seconds = before - start
    return done


async def _run_cell(client: NotebookClient, number: int, left: float | None) -> str | None:
    if left is not None and left <= 0:
        return "late"
    client.timeout = None if left is None else max(1, round(left))
    try:
        await client.async_execute_cell(client.nb["cells"][number - 1], number - 1)
    except CellExecutionError as error:
        return _last_words(error)
    except CellTimeoutError:
        return "late"
    except DeadKernelError:
        return "the kernel died (out of memory?)"
    return None
