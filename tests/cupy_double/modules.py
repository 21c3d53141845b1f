"""The module objects that stand in `sys.modules` while the double is installed."""

import importlib.machinery
import types

import numpy as np

from . import creation, cuda, kernels, products, rng
from .api import API, kind, missing
from .array import ndarray
from .functions import module_functions
from .indexing import scatter
from .machine import tally
from .ufuncs import ufunc

TYPES = {"dtype", "finfo", "iinfo", "generic", "number", "integer", "signedinteger",
         "unsignedinteger", "inexact", "floating", "complexfloating", "ndindex"}
OBJECTS = {"s_", "index_exp"}


class Module(types.ModuleType):
    "A module without a file."

    def __init__(self, name: str, names: dict):
        super().__init__(name, "The NumPy-backed double of CuPy: a test double.")
        self.__path__ = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        self.__package__ = name
        self.__dict__.update(names)

    def __getattr__(self, name):
        known = name in API.get(self.__name__, ())
        raise AttributeError(
            f"{self.__name__}.{name} exists in CuPy; the double does not offer it" if known else
            f"module {self.__name__!r} has no attribute {name!r}")


def get_array_module(*args):
    return built()["cupy"] if any(isinstance(a, ndarray) for a in args) else np


def show_config() -> None:
    print(f"double of CuPy {API['version']} (NumPy {np.__version__})")


def constants() -> dict:
    "Scalar types, numbers and NumPy's own classes that `cupy` hands on."
    found = {}
    for name in API["cupy"]:
        word, text = kind("cupy", name)
        if word == "dtype":
            found[name] = np.dtype(text).type
        elif word == "value":
            found[name] = {"None": None, "True": True, "False": False}.get(text) \
                if text in ("None", "True", "False") else float(text)
        elif name in TYPES | OBJECTS:
            found[name] = getattr(np, name)
    return found


def _ufunc(name: str, f):
    return ufunc(name, 1, 1, f=f)


def _pinned(f):
    def make(*args, **kwargs):
        tally()
        return f(*args, **kwargs)
    return make


def cupyx_names() -> dict:
    found = {n: missing("cupyx", n) for n, v in API["cupyx"].items()
             if v.startswith(("def", "type"))}
    for op in ("add", "max", "min"):
        found[f"scatter_{op}"] = lambda a, slices, value, _op=op: scatter(_op, a, slices, value)
    found["rsqrt"] = _ufunc("rsqrt", lambda x: 1 / np.sqrt(x))
    for f in (np.empty, np.zeros, np.empty_like, np.zeros_like):
        found[f"{f.__name__}_pinned"] = _pinned(f)
    return found


def _cupy_names() -> dict:
    found = {**constants(), **module_functions("cupy", np), **creation.FUNCTIONS,
             **kernels.KERNELS}
    for f in (get_array_module, show_config):
        found[f.__name__] = f
    return {**found, "exceptions": np.exceptions, "AxisError": np.exceptions.AxisError,
            "ndarray": ndarray, "ufunc": ufunc, "__version__": API["version"],
            "get_default_memory_pool": lambda: cuda.pool, "is_available": cuda.is_available,
            "get_default_pinned_memory_pool": lambda: cuda.pinned_pool}


_modules = {}


def built() -> dict[str, Module]:
    "All modules by their full name; made once, so that held references stay good."
    if _modules:
        return _modules
    linalg = {**module_functions("cupy.linalg", np.linalg), "LinAlgError": np.linalg.LinAlgError}
    runtime = Module("cupy.cuda.runtime", cuda.runtime_names())
    parts = {
        "cupy": _cupy_names(),
        "cupy.linalg": linalg,
        "cupy.random": rng.names(),
        "cupy.cublas": {"gemm": products.gemm},
        "cupy.cuda": cuda.cuda_names(),
        "cupyx": cupyx_names(),
        "cupyx.profiler": {"time_range": cuda.time_range},
    }
    _modules.update({n: Module(n, names) for n, names in parts.items()})
    _modules["cupy.cuda.runtime"] = runtime
    for name in list(_modules):
        parent, _, child = name.rpartition(".")
        if parent and name != "cupy.cublas":
            setattr(_modules[parent], child, _modules[name])
    return _modules


def find(path: list[str], name: str):
    "The function `name` of the module with this path, or None."
    return getattr(built().get(".".join(path)), name, None)
