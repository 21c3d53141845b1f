"""The pretended machine: how many GPUs, which libraries are missing, and what was counted."""

import contextlib

INSUFFICIENT = ("cudaErrorInsufficientDriver: "
                "CUDA driver version is insufficient for CUDA runtime version")
NO_DEVICE = "cudaErrorNoDevice: no CUDA-capable device is detected"
NAMES = ("launch", "h2d", "d2h", "sync", "alloc")


class CUDARuntimeError(RuntimeError):
    "CuPy's error for a failed call of the CUDA runtime."

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


CUDARuntimeError.__module__ = "cupy_backends.cuda.api.runtime"


class DynamicLibNotFoundError(RuntimeError):
    "What the first kernel raises without `[ctk]`: a RuntimeError, no ImportError."


DynamicLibNotFoundError.__module__ = "cuda.pathfinder._dynamic_libs.load_dl_common"


class SilentOnGPU(AssertionError):
    "CuPy would go on here with undefined or wrong numbers; the double stops."


class Count:
    "How often each kind of traffic happened: launch, h2d, d2h, sync, alloc."

    def __init__(self):
        self.reset()

    def reset(self) -> "Count":
        for name in NAMES:
            setattr(self, name, 0)
        return self

    def __getitem__(self, name: str) -> int:
        return getattr(self, name)

    def as_dict(self) -> dict[str, int]:
        return {name: self[name] for name in NAMES}

    def __repr__(self) -> str:
        return "Count(" + ", ".join(f"{k}={v}" for k, v in self.as_dict().items()) + ")"


count = Count()
_open = [count]
_quiet = 0


@contextlib.contextmanager
def counting():
    "`with counting() as c:` counts what happens inside; `c` keeps its numbers afterwards."
    inner = Count()
    _open.append(inner)
    try:
        yield inner
    finally:
        _open.remove(inner)


@contextlib.contextmanager
def uncounted():
    "Inside a fused kernel or a stand-in nothing is counted."
    global _quiet
    _quiet += 1
    try:
        yield
    finally:
        _quiet -= 1


def tally(compiled: bool = True, **traffic: int) -> None:
    """Count; a machine without a GPU or a compiler raises here, as its first call would.

    Memset and cuBLAS are launches that need no compiler: `compiled=False`.
    """
    if not state.gpus:
        no_gpu()
    if compiled and traffic.get("launch") and state.broken == "nvrtc":
        missing = "libnvrtc.so.13 or libnvrtc.so.12"
        raise DynamicLibNotFoundError(
            f'Failure finding "{missing}": No such file: {missing}, No such file: {missing}\n')
    if _quiet:
        return
    for c in _open:
        for name, n in traffic.items():
            setattr(c, name, getattr(c, name) + n)


def cublas() -> None:
    "The first product on a machine without cuBLAS."
    if state.broken == "cublas":
        missing = "libcublasLt.so.13 or libcublasLt.so.12"
        raise ImportError(
            f'Failure finding "{missing}": No such file: {missing}, No such file: {missing}\n')


def no_gpu():
    "The error of a machine without a driver, or with a driver and no card."
    if state.driver:
        raise CUDARuntimeError(NO_DEVICE, 100)
    raise CUDARuntimeError(INSUFFICIENT, 35)


class State:
    "What `install` was told."

    used = 0  # bytes of live arrays, in blocks of 512

    def __init__(self):
        self.set()

    def set(self, gpus: int = 1, driver: int | None = None, broken: str | None = None) -> None:
        if broken not in (None, "import", "nvrtc", "cublas"):
            raise ValueError(f'broken must be None, "import", "nvrtc" or "cublas", got {broken!r}')
        self.gpus, self.broken = gpus, broken
        self.driver = (13000 if gpus else 0) if driver is None else driver


state = State()
