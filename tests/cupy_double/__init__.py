"""A NumPy-backed double of CuPy for tests on machines without a GPU.

It has CuPy's names and signatures (frozen in `cupy_api.json`), refuses what CuPy refuses, stops
where CuPy would be silently wrong, and counts launches, transfers, synchronisations and
allocations. It is a test double: a test that passes on it is never evidence that a GPU run works.

    xp = install()              # sys.modules["cupy"] and its submodules
    with counting() as c:
        y = xp.tanh(xp.zeros((2, 3), "float32"))
    c.launch, c.alloc           # 2, 2
    uninstall()
"""

import contextlib
import sys

from . import modules
from .array import ndarray
from .kernels import stand_in
from .machine import (
    Count,
    CUDARuntimeError,
    DynamicLibNotFoundError,
    SilentOnGPU,
    count,
    counting,
    state,
)

__all__ = ["CUDARuntimeError", "Count", "DynamicLibNotFoundError", "SilentOnGPU", "count",
           "counting", "install", "installed", "ndarray", "stand_in", "uninstall"]

_saved = None


def install(
    gpus: int = 1,  # 0: every call that needs a GPU raises CUDARuntimeError
    driver: int | None = None,  # what driverGetVersion() says; default 13000, 0 without a GPU
    broken: str | None = None,  # "import", "nvrtc" or "cublas": what this machine lacks
):
    "Put the double at `sys.modules['cupy']`, `['cupyx']` and below; the counts start at zero."
    global _saved
    uninstall()
    state.set(gpus, driver, broken)
    _saved = {n: sys.modules.pop(n) for n in list(sys.modules) if _cupy_like(n)}
    parts = dict(modules.built())
    if broken == "import":
        parts = dict.fromkeys(("cupy", "cupyx"))  # import cupy: ModuleNotFoundError
    if broken == "cublas":
        parts["cupy.cublas"] = None
    sys.modules.update(parts)
    count.reset()
    return parts["cupy"]


def uninstall() -> None:
    "Take the double away; what stood in its place before stands there again."
    global _saved
    if _saved is None:
        return
    for n in [n for n in sys.modules if _cupy_like(n)]:
        del sys.modules[n]
    sys.modules.update(_saved)
    _saved = None
    state.set()


@contextlib.contextmanager
def installed(**machine):
    "`with installed(gpus=0) as cupy:`"
    try:
        yield install(**machine)
    finally:
        uninstall()


def _cupy_like(name: str) -> bool:
    return name.split(".")[0] in ("cupy", "cupyx", "cupy_backends")
