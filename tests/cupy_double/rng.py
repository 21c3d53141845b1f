"""`cupy.random`: other numbers than CuPy's, the same names, arguments and dtypes."""

import numpy as np

from .api import API, bind, kind, missing
from .array import fresh, ndarray
from .calls import host
from .machine import tally

_state = np.random.RandomState(0)


def _drawn(r, dtype) -> ndarray:
    tally(launch=1)
    return fresh(np.asarray(r) if dtype is None else np.asarray(r).astype(dtype))


class Generator:
    "The double of `cupy.random.Generator`: no normal, permutation, shuffle or choice."

    def __init__(self, bit_generator):
        tally()
        self._g = bit_generator

    def __getattr__(self, name):
        if name not in API["Generator"]:
            raise AttributeError(f"'Generator' object has no attribute {name!r}")

        def draw(*args, **kwargs):
            given = bind("Generator", name, args, kwargs)
            out = given.pop("out", None)
            dtype = given.pop("dtype", None)
            if out is not None and not isinstance(out, ndarray):
                raise TypeError("out must be a cupy.ndarray")
            given = {k: host(v) for k, v in given.items() if k != "method"}
            if name in ("random", "standard_normal") and out is not None:
                given["size"] = out.shape
            if name == "integers" and dtype is None:
                dtype = np.int64
            r = _drawn(getattr(self._g, name)(**given), dtype)
            if out is None:
                return r
            out[...] = r
            return out
        return draw


Generator.__module__ = "cupy.random"


def default_rng(seed=None) -> Generator:
    if isinstance(seed, Generator):
        return seed
    return Generator(np.random.default_rng(seed))


def seed(seed=None) -> None:
    tally()
    _state.seed(seed)


def _legacy(name: str):
    "A function of the global state; CuPy adds `dtype` to several of NumPy's."
    def call(*args, **kwargs):
        given = bind("cupy.random", name, args, kwargs)
        dtype = {**given, **given.pop("kwarg", {})}.get("dtype")
        given.pop("dtype", None)
        f = getattr(_state, name)
        if name in ("rand", "randn"):
            return _drawn(f(*given.get("size", ())), dtype)
        if name == "shuffle":
            tally(launch=1)
            return f(host(given["a"]))
        if name == "permutation":
            return _drawn(f(host(given["a"])), dtype)
        return _drawn(f(**{k: host(v) for k, v in given.items()}), dtype)
    call.__name__ = name
    return call


LEGACY = ["normal", "uniform", "standard_normal", "random_sample", "randint", "permutation",
          "shuffle", "choice", "rand", "randn"]


def names() -> dict:
    found = {n: missing("cupy.random", n) for n in API["cupy.random"]
             if kind("cupy.random", n)[0] in ("def", "type")}
    found.update({n: _legacy(n) for n in LEGACY})
    found.update(Generator=Generator, default_rng=default_rng, seed=seed)
    return found
