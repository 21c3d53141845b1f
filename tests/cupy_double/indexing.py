"""Reading, storing and adding through indices, with the checks CuPy leaves out."""

import numpy as np

from .array import fresh, ndarray, view
from .machine import SilentOnGPU, tally

SCALARS = (bool, int, float, complex, np.generic)
INTEGERS = "int32, int64, uint32, uint64"
ATOMICS = {  # the name of the ufunc, and the types CUDA's atomic operation has for CuPy
    "add": ("add", "int32, int64, float16, float32, float64, uint32, uint64"),
    "sub": ("subtract", "int32, uint32"),
    "max": ("maximum", "int32, int64, float32, float64, uint32, uint64"),
    "min": ("minimum", "int32, int64, float32, float64, uint32, uint64"),
    "and": ("bitwise_and", INTEGERS), "or": ("bitwise_or", INTEGERS),
    "xor": ("bitwise_xor", INTEGERS),
}


class Key:
    "An index as NumPy takes it, and which kinds of arrays it holds."

    def __init__(self, key):
        self.integers = self.masks = 0
        self.raw = tuple(self._part(k) for k in (key if isinstance(key, tuple) else (key,)))
        self.basic = not (self.integers or self.masks)

    def _part(self, k):
        if k is None or k is Ellipsis or isinstance(k, slice):
            return k
        if isinstance(k, ndarray):
            a = k._a
        elif np.isscalar(k) and not isinstance(k, (bool, np.bool_)):
            return k
        else:
            a = np.asarray(k)
            if a.size == 0 and isinstance(k, (list, tuple)):
                a = a.astype(np.int32)
            if a.dtype.kind in "biu":
                tally(**({"h2d": 1} if a.ndim else {"launch": 1}), alloc=1)
        if a.dtype.kind not in "biu":
            raise IndexError("arrays used as indices must be of integer or boolean type. "
                             f"(actual: {a.dtype.type})")
        if a.dtype.kind == "b":
            self.masks += 1
        else:
            self.integers += 1
        return a

    def traffic(self) -> None:
        "Kernels of one indexed read or store; a mask's count of trues is read by the host."
        many = self.integers + self.masks
        tally(launch=(1 if many < 2 else 2 + many) + self.masks, d2h=self.masks, sync=self.masks)

    def reach(self, a: np.ndarray) -> np.ndarray:
        "`a[key]`; an index array out of range stops here."
        try:
            return a[self.raw]
        except IndexError as e:
            if self.integers and "out of bounds" in str(e):
                raise SilentOnGPU(f"{e}: CuPy would wrap around silently") from None
            raise

    def positions(self, a: np.ndarray) -> np.ndarray:
        "The flat positions of the entries that the key names."
        return self.reach(np.arange(a.size).reshape(a.shape))


def load(a: ndarray, key) -> ndarray:
    "`a[key]`: a view for slices and integers, else a copy."
    k = Key(key)
    if k.basic:
        open_end = k.raw if any(x is Ellipsis for x in k.raw) else (*k.raw, Ellipsis)
        return view(a._a[open_end], a)
    k.traffic()
    got = k.reach(a._a)
    return fresh(got.copy() if np.may_share_memory(got, a._a) else got)


def store(a: ndarray, key, value) -> None:
    "`a[key] = value`"
    k = Key(key)
    if k.basic:
        return _store_view(load(a, key), value)
    v = _value(value)
    k.traffic()
    where = k.positions(a._a)
    if k.integers and np.size(v) > 1 and np.unique(where).size < where.size:
        raise SilentOnGPU("duplicate indices in a store: which value stays is undefined on a GPU; "
                          "add up with add.at or cupyx.scatter_add")
    with np.errstate(all="ignore"):
        a._a[k.raw] = v


def _value(value):
    "What is stored through an index array; host arrays travel, as in CuPy."
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, SCALARS):
        tally(launch=1, alloc=1)
        return value
    if isinstance(value, (np.ndarray, list, tuple)):
        if any(isinstance(x, ndarray) for x in value):
            raise TypeError(f"Unsupported type {type(value)}")
        tally(h2d=1, alloc=1)
        return np.asarray(value)
    raise TypeError(f"Unsupported type {type(value)}")


def _store_view(target: ndarray, value) -> None:
    if not isinstance(value, ndarray):
        return target.fill(value)
    to, of = target._a, value._a
    same = to.shape == of.shape and to.strides == of.strides
    if same and to.dtype == of.dtype and target.data.ptr == value.data.ptr:
        return None  # the second half of `a[i] += x`
    if same and to.flags.c_contiguous and to.dtype == of.dtype and np.shares_memory(to, of):
        raise SilentOnGPU("store between overlapping parts of one array: CuPy copies with one "
                          "memcpy, whose result is undefined; copy the value first")
    tally(launch=1)
    while of.ndim > to.ndim and of.shape[0] == 1:
        of = of[0]
    with np.errstate(all="ignore"):
        to[...] = of


def scatter(op: str, a: ndarray, key, value) -> None:
    "`add.at(a, key, value)` and its kin: repeated indices add up (or take the maximum, ...)."
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    name, types = ATOMICS[op]
    k = Key(key)
    if k.integers and a.dtype.name not in types.split(", "):
        raise TypeError(f"cupy.{name}.at only supports {types} as data type")
    if k.basic and isinstance(value, (np.ndarray, list, tuple)):
        raise TypeError(f"Unsupported type {type(value)}")
    v = _value(value)
    if k.basic:
        tally(launch=1)
    else:
        k.traffic()
        k.positions(a._a)
    with np.errstate(all="ignore"):
        getattr(np, name).at(a._a, k.raw, np.asarray(v).astype(a.dtype))


ndarray.__getitem__ = load
ndarray.__setitem__ = store
for _op in ("add", "max", "min"):
    def _scatter(self, slices, value, _op=_op):
        scatter(_op, self, slices, value)
    _scatter.__name__ = f"scatter_{_op}"
    setattr(ndarray, _scatter.__name__, _scatter)
