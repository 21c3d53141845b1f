"""`make gpu`: on a machine with an NVIDIA GPU and CuPy, run the GPU tests, benchmarks and chapters.

Needs numpy, cupy, matplotlib, tqdm and pytest, and no notebook software. Results are stored in
`benchmarks/results/`; commit them with the device's name and the date they carry.
"""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = [f"tests/test_{name}.py" for name in (
    "laws", "law7_memory", "law8_double", "law9_wrong_input", "ownership", "backend", "autograd",
    "peers")]  # what needs no notebook software
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))

from benchmarks.side_by_side import compare  # noqa: E402
from rnntext import backend as rnntext_backend  # noqa: E402
from rnntext.backend import find_gpu, save_result, using  # noqa: E402


def traffic() -> None:
    """What a launch, a copy and a synchronisation cost: the numbers behind chapter 00."""
    started, cupy = time.perf_counter(), find_gpu().cupy
    small, host = cupy.zeros(16, dtype="float32"), rnntext_backend.numpy.zeros(16, "float32")
    square, wide = cupy.zeros((256, 256), "float32"), cupy.zeros((4096, 4096), "float32")

    def launches() -> None:
        for _ in range(1000):
            small.__iadd__(1.0)

    def products() -> None:
        for _ in range(1000):
            square @ square

    def copies() -> None:
        for _ in range(1000):
            cupy.asarray(host)

    def questions() -> None:
        for _ in range(1000):
            float(small[0])

    values = compare({
        "launch": launches, "product 256": products, "copy to the GPU": copies,
        "question": questions, "product 4096": lambda: wide @ wide,
    }, finish=cupy.cuda.Device().synchronize)
    for name, v in values.items():
        unit = "ms" if name == "product 4096" else "us each"  # a thousand calls
        print(f"{name:16} {v['ms']:.3g} {unit}", flush=True)
    save_result("gpu-traffic", values, {"calls": 1000}, [], time.perf_counter() - started)


def chapter(path: Path) -> str:
    """Run a chapter's code cells as plain Python with backend = cupy; what went wrong, or ''."""
    from rnntext.autograd import Tensor
    from rnntext.backend import is_device
    from rnntext.learn import Module

    names: dict = {"__name__": path.stem}
    os.environ["RNNTEXT_BACKEND"] = "cupy"
    os.chdir(path.parent)
    try:
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or "#| eval: false" in source:
                continue
            try:
                exec(compile(ast.parse(source), f"{path.stem} cell {number}", "exec"), names)
            except ImportError as error:
                return f"skipped at cell {number}: {error}"
            except Exception as error:
                return f"FAILED at cell {number}: {type(error).__name__}: {error}"
        parameters = [p for m in names.values() if isinstance(m, Module)
                      for p in m.parameters().values()]
        parameters += [t for t in names.values() if isinstance(t, Tensor)]
        host = [p.shape for p in parameters if not is_device(p.data)]
        return f"FAILED: Tensors on the CPU, of shapes {host}" if host else ""
    finally:
        del os.environ["RNNTEXT_BACKEND"]
        os.chdir(ROOT)
        rnntext_backend.fresh()


def chapters() -> int:
    """Run every chapter on the GPU; the number that failed."""
    failed = 0
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        started = time.perf_counter()
        said = chapter(path)
        failed += said.startswith("FAILED")
        print(f"{path.stem:28} {time.perf_counter() - started:6.1f} s  {said or 'ran'}", flush=True)
    return failed


def main() -> int:
    if problem := find_gpu().problem:
        print(f"no GPU, so nothing was run: {problem}")
        return 1
    from benchmarks import recurrences

    tests = subprocess.run([sys.executable, "-m", "pytest", "-o", "addopts=-q -rs", *TESTS])
    traffic()
    with using("cupy"):
        recurrences.measure(finish=find_gpu().cupy.cuda.Device().synchronize)
    failed = chapters()
    return int(bool(tests.returncode or failed))


if __name__ == "__main__":
    sys.exit(main())
