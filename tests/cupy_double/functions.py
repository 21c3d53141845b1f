"""Functions of `cupy` and `cupy.linalg`, and methods of `ndarray`, carried out by NumPy."""

import inspect
import warnings

import numpy as np

from . import products
from .api import API, bind, kind, missing, signature
from .array import fresh, method, ndarray, poison
from .calls import host, refuse, results, run
from .machine import SilentOnGPU, tally
from .ufuncs import UFUNCS

# Kernels of one call, where CuPy's source shows more than one (without temporary copies).
LAUNCHES = {"allclose": 2, "isclose": 1, "array_equal": 2, "eye": 2, "identity": 2, "norm": 3,
            "nonzero": 3, "argwhere": 3, "flatnonzero": 3, "std": 3, "var": 2, "average": 3}
# The host learns the size of the answer, so it waits.
WAITS = {"nonzero", "argwhere", "flatnonzero", "unique", "unique_all", "unique_counts",
         "unique_inverse", "unique_values", "extract", "compress", "bincount", "setdiff1d",
         "intersect1d", "union1d", "trim_zeros", "histogram", "place", "choose"}
# Answered by the host from shapes and dtypes alone.
HOST = {"shape", "ndim", "size", "result_type", "can_cast", "promote_types", "min_scalar_type",
        "common_type", "broadcast_shapes", "isscalar", "issubdtype", "iscomplexobj", "isrealobj",
        "may_share_memory", "shares_memory", "isfortran", "iterable", "mintypecode", "typename",
        "base_repr", "binary_repr", "get_printoptions", "set_printoptions", "ravel_multi_index"}
SHOWS = {"array_repr", "array_str", "array2string"}
WRITES = {"copyto", "put", "putmask", "place", "fill_diagonal", "put_along_axis", "nan_to_num"}
JOINS = {"stack", "concatenate", "concat", "vstack", "hstack", "dstack", "column_stack"}
EINSUM = {"dtype", "optimize"}
METHODS = ["all", "any", "argpartition", "argsort", "byteswap", "choose",
           "clip", "compress", "conj", "conjugate", "cumprod", "cumsum", "diagonal", "flatten",
           "max", "mean", "min", "nonzero", "prod", "ravel", "repeat", "round", "searchsorted",
           "squeeze", "std", "sum", "swapaxes", "take", "trace", "transpose", "var"]


def device_function(section: str, name: str, f):
    "CuPy's `name`, computed by NumPy's `f`."
    launches, writes, renamed = LAUNCHES.get(name, 1), name in WRITES, _renamed(section, name, f)

    def twin(*args, **kwargs):
        return f(*args, **{renamed.get(k, k): v for k, v in kwargs.items()})

    def call(*args, **kwargs):
        r = run(section, name, twin if renamed else f, args, kwargs, launches, writes)
        if name in WAITS:
            tally(d2h=1, sync=1)
        return r
    return _named(call, name)


def _renamed(section: str, name: str, f) -> dict[str, str]:
    "Parameters that NumPy calls by another name, in the same place."
    try:
        theirs = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        return {}
    pairs = zip(signature(section, name).parameters, theirs, strict=False)
    return {c: n for c, n in pairs if c != n and c not in theirs}


def host_function(section: str, name: str, f):
    "Answers about shapes and dtypes; `size` and its like also take Python scalars."
    def call(*args, **kwargs):
        bind(section, name, args, kwargs)
        return f(*(host(a) for a in args), **{k: host(v) for k, v in kwargs.items()})
    return _named(call, name)


def shown(section: str, name: str, f):
    def call(a, *args, **kwargs):
        bind(section, name, (a, *args), kwargs)
        return f(a.get(), *args, **kwargs)
    return _named(call, name)


def joined(section: str, name: str, f):
    "Joining functions name the first argument that is not on the device."
    def call(tup, *args, **kwargs):
        bind(section, name, (tup, *args), kwargs)
        for a in tup:
            if not isinstance(a, ndarray):
                if isinstance(a, (np.ndarray, list, tuple)):
                    refuse(a)
                raise TypeError("Only cupy arrays can be concatenated")
        return run(section, name, f, (tup, *args), kwargs)
    return _named(call, name)


def _named(call, name: str):
    call.__name__ = call.__qualname__ = name
    call.__module__ = "cupy"
    return call


def where(condition, x=None, y=None):
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if not isinstance(condition, ndarray):
        raise AttributeError(f"{type(condition).__name__!r} object has no attribute 'astype'")
    if x is None:
        return SPECIAL["nonzero"](condition)
    for v in (x, y):
        if not isinstance(v, (ndarray, bool, int, float, complex, np.generic)):
            refuse(v)
    if condition.dtype != bool:
        tally(launch=1, alloc=1)
    return results(np.where(host(condition), host(x), host(y)), [], 1)


def _extreme(name: str):
    "argmax and argmin have a `dtype` in CuPy."
    def call(*args, **kwargs):
        given = bind("cupy", name, args, kwargs)
        dtype = given.pop("dtype", None)
        r = run("cupy", name, getattr(np, name), (), given)
        return r if dtype is None else r.astype(dtype, copy=False)
    return call


def einsum(*args, **kwargs):
    wrong = sorted(set(kwargs) - EINSUM)
    if wrong:
        raise TypeError(f"Did not understand the following kwargs: {wrong}")
    for a in args[1:] if isinstance(args[0], str) else args[::2]:
        if not isinstance(a, ndarray):
            refuse(a)
    products.multiplies()
    return run("cupy", "einsum", np.einsum, args, kwargs)


def reshape(a, newshape, order="C", *, copy=None):
    if not isinstance(a, ndarray):
        refuse(a)
    return a.reshape(newshape, order=order, copy=copy)


def empty(*args, **kwargs):
    bind("cupy", "empty", args, kwargs)
    return ndarray(*args[:2], **({"order": args[2]} if len(args) > 2 else {}), **kwargs)


def empty_like(*args, **kwargs):
    first = next(iter(bind("cupy", "empty_like", args, kwargs).values()))
    if not isinstance(first, ndarray):
        refuse(first)
    return fresh(poison(np.empty_like(*map(host, args), **kwargs)))


def put(a, ind, v, mode="wrap"):
    flat = np.asarray(host(ind) if isinstance(ind, ndarray) else ind).ravel()
    if np.unique(flat).size < flat.size:
        raise SilentOnGPU("duplicate indices in put: which value stays is undefined on a GPU")
    return run("cupy", "put", np.put, (a, ind, v), {"mode": mode}, writes=True)


def take_along_axis(*args, **kwargs):
    "CuPy makes one arange for each other axis and gathers through all of them."
    given = bind("cupy", "take_along_axis", args, kwargs)
    a, indices, axis = given["a"], given["indices"], given["axis"]
    if isinstance(indices, (ndarray, np.ndarray)) and indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    n = 2 * getattr(a, "ndim", 1) + 1
    return run("cupy", "take_along_axis", np.take_along_axis, (a, indices, axis), {}, launches=n)


def linalg_norm(*args, **kwargs):
    "One kernel along one axis, three over the whole array."
    given = bind("cupy.linalg", "norm", args, kwargs)
    if not isinstance(given["x"], ndarray):
        refuse(given["x"])
    n = 1 if isinstance(given.get("axis"), int) and given.get("ord") in (None, 2) else 3
    return run("cupy.linalg", "norm", np.linalg.norm, args, kwargs, launches=n)


SPECIAL = {"where": where, "einsum": einsum, "reshape": reshape, "empty": empty,
           "empty_like": empty_like, "put": put, "take_along_axis": take_along_axis,
           "argmax": _extreme("argmax"),
           "argmin": _extreme("argmin"), "dot": products.dot, "matmul": products.matmul}


def module_functions(section: str, numpy_module) -> dict:
    "Everything of one CuPy module that NumPy can carry out, by name."
    found = {}
    for name in API[section]:
        word, _ = kind(section, name)
        if section == "cupy" and word == "ufunc":
            found[name] = UFUNCS.get(name) or missing(section, name)
        elif word == "def":
            found[name] = _function(section, name, numpy_module)
    return found


def _function(section: str, name: str, numpy_module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f = getattr(numpy_module, name, None)
    if section == "cupy" and name in SPECIAL:
        return _named(SPECIAL[name], name)
    if f is None or isinstance(f, type):
        return missing(section, name)
    if name == "matmul":
        return products.matmul
    if name == "norm":
        return _named(linalg_norm, name)
    make = (host_function if name in HOST else shown if name in SHOWS else
            joined if name in JOINS else device_function)
    return make(section, name, f)


def _method(name: str):
    f = np.ptp if name == "ptp" else getattr(np.ndarray, name)

    def call(self, *args, **kwargs):
        r = run("ndarray", name, f, args, kwargs, LAUNCHES.get(name, 1), method=self)
        if name in WAITS:
            tally(d2h=1, sync=1)
        return r
    return call


def _in_place(name: str):
    def call(self, *args, **kwargs):
        tally(launch=1)
        getattr(self._a, name)(*(host(a) for a in args), **kwargs)
    return call


for _name in [*METHODS, "ptp"]:
    method(_name, _method(_name))
for _name in ("sort", "partition"):
    method(_name, _in_place(_name))
for _name in ("argmax", "argmin"):
    method(_name, lambda self, axis=None, out=None, dtype=None, keepdims=False, _name=_name:
           SPECIAL[_name](self, axis, dtype, out, keepdims))
method("dot", lambda self, b, out=None: products.dot(self, b, out))
method("put", lambda self, indices, values, mode="wrap": put(self, indices, values, mode))
SPECIAL["nonzero"] = device_function("cupy", "nonzero", np.nonzero)


def _array_function(self, func, types, args, kwargs):
    "NumPy functions on device arrays go to the CuPy function of the same name."
    from .modules import find
    found = find(["cupy", *func.__module__.split(".")[1:]], func.__name__)
    if found is None or any(t not in (ndarray, np.ndarray) for t in types):
        return NotImplemented
    return found(*args, **kwargs)


ndarray.__array_function__ = _array_function
