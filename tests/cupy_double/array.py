"""The double of `cupy.ndarray`: a NumPy array behind CuPy's rules, views with their base."""

import numpy as np

from .api import API, bind
from .machine import state, tally

DTYPES = "?bhilqBHILQefdFD"
REFUSAL = ("Implicit conversion to a NumPy array is not allowed. "
           "Please use `.get()` to construct a NumPy array explicitly.")


def poison(a: np.ndarray) -> np.ndarray:
    "Fresh memory holds NaN, or integers far outside of any index."
    if a.dtype.kind in "fc":
        a.fill(np.nan)
    else:
        a.fill(True if a.dtype.kind == "b" else np.frombuffer(b"\xa5" * a.itemsize, a.dtype)[0])
    return a


class MemoryPointer:
    "`a.data`: where an array begins. Two views of one buffer share `mem`."

    def __init__(self, mem: "Memory", ptr: int):
        self.mem, self.ptr = mem, ptr
        self.device_id = 0

    def __add__(self, offset: int) -> "MemoryPointer":
        return MemoryPointer(self.mem, self.ptr + offset)

    def __int__(self) -> int:
        return self.ptr


class Memory:
    "One allocation; the pool counts its bytes in blocks of 512 while anything refers to it."

    def __init__(self, a: np.ndarray):
        self.array, self.size, self.device_id = a, a.nbytes, 0
        self._block = -(-a.nbytes // 512) * 512
        state.used += self._block

    @property
    def ptr(self) -> int:
        return self.array.__array_interface__["data"][0]

    def __del__(self):
        state.used -= getattr(self, "_block", 0)


class Flags:
    "`a.flags` with the five names CuPy has."

    def __init__(self, a: np.ndarray, owns: bool):
        f = a.flags
        self.c_contiguous, self.f_contiguous = f.c_contiguous, f.f_contiguous
        self.owndata, self.fnc, self.forc = owns, f.fnc, f.forc

    def __getitem__(self, name: str) -> bool:
        if name.lower() not in API["Flags"]:
            raise KeyError(f"Unknown flag {name!r}")
        return getattr(self, name.lower())

    def __repr__(self) -> str:
        return "\n".join(f"  {n.upper()} : {self[n]}" for n in API["Flags"])


class ndarray:
    "A NumPy-backed double of `cupy.ndarray`; never evidence that a GPU run works."

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        dtype = checked(np.dtype(dtype))
        if memptr is None:
            tally(alloc=1)
            self._take(poison(np.empty(shape, dtype, order=order or "C")))
            return
        tally()
        buffer = np.ascontiguousarray(memptr.mem.array).reshape(-1)
        if not np.shares_memory(buffer, memptr.mem.array):
            raise NotImplementedError("the double places arrays only in contiguous allocations")
        self._a = np.ndarray(shape, dtype, buffer, memptr.ptr - memptr.mem.ptr, strides, order)
        self._mem, self.base = memptr.mem, None

    def _take(self, a: np.ndarray) -> "ndarray":
        self._a, self._mem, self.base = a, Memory(a), None
        return self

    # where the memory is
    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(self._mem, self._a.__array_interface__["data"][0])

    @property
    def flags(self) -> Flags:
        return Flags(self._a, self.base is None)

    @property
    def device(self):
        from .cuda import Device
        return Device(0)

    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    strides = property(lambda self: self._a.strides)
    T = property(lambda self: view(self._a.T, self))
    real = property(lambda self: view(self._a.real, self))

    @property
    def mT(self) -> "ndarray":
        if self._a.ndim < 2:
            raise ValueError("matrix transpose with ndim < 2 is undefined")
        return view(self._a.swapaxes(-1, -2), self)

    @property
    def imag(self) -> "ndarray":
        if self._a.dtype.kind == "c":
            return view(self._a.imag, self)
        tally(launch=1)
        return fresh(np.zeros_like(self._a))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._a.shape

    @shape.setter
    def shape(self, new):
        v = self._a.view()
        try:
            v.shape = new
        except AttributeError:
            raise ValueError("incompatible shape for a non-contiguous array") from None
        self._a = v

    @property
    def flat(self):
        raise NotImplementedError("the double does not offer ndarray.flat")

    # to and from the host
    def get(self, stream=None, order="C", out=None, blocking=True) -> np.ndarray:
        tally(d2h=1, sync=1 if blocking else 0)
        if not (self._a.flags.c_contiguous or self._a.flags.f_contiguous):
            tally(launch=1, alloc=1)
        if out is None:
            return np.array(self._a, order=order, copy=True)
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        if out.dtype != self.dtype:
            raise TypeError(f"{self.dtype} array cannot be obtained from {out.dtype} array")
        if out.shape != self.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, "
                             f"actual shape: {out.shape}")
        out[...] = self._a
        return out

    def set(self, arr, stream=None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self._a.flags.c_contiguous or self._a.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        tally(h2d=1)
        self._a[...] = arr

    def item(self):
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def tobytes(self, order="C") -> bytes:
        return self.get().tobytes(order)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(REFUSAL)

    def __contains__(self, x):
        raise TypeError("`in` on a device array: CuPy would copy element after element to the host")

    def __bool__(self): return bool(self.get())
    def __int__(self): return int(self.get())
    def __float__(self): return float(self.get())
    def __complex__(self): return complex(self.get())
    def __repr__(self): return repr(self.get())
    def __str__(self): return str(self.get())
    def __format__(self, spec): return format(self.get(), spec)

    def __len__(self):
        if not self._a.ndim:
            raise TypeError("len() of unsized object")
        return len(self._a)

    def __iter__(self):
        if not self._a.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._a)))

    # copies and views
    def __copy__(self): return self.copy()
    def __deepcopy__(self, memo): return self.copy()

    def copy(self, order="C") -> "ndarray":
        tally(launch=1)
        return fresh(self._a.copy(order))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True) -> "ndarray":
        if subok is not None:
            raise TypeError("subok is not supported yet")
        if casting is not None:
            raise TypeError("casting is not supported yet")
        dtype = checked(np.dtype(dtype))
        if not copy and dtype == self.dtype:
            return self
        tally(launch=1)
        with np.errstate(all="ignore"):
            return fresh(self._a.astype(dtype, order=order))

    def view(self, dtype=None, type=None) -> "ndarray":
        return view(self._a.view() if dtype is None else self._a.view(dtype), self)

    def reduced_view(self, dtype=None) -> "ndarray":
        return self.view(dtype)

    def reshape(self, *shape, order="C", copy=None) -> "ndarray":
        made = self._a.reshape(*shape, order=order)
        if copy or not np.may_share_memory(made, self._a):
            if copy is False:
                raise ValueError("Unable to avoid creating a copy while reshaping.")
            tally(launch=1)
            return fresh(made.copy() if copy else made)
        return view(made, self)

    def fill(self, value) -> None:
        if isinstance(value, (np.ndarray, ndarray)) and value.shape != ():
            owner = "cupy" if isinstance(value, ndarray) else "numpy"
            raise ValueError(f"non-scalar {owner}.ndarray cannot be used for fill")
        if isinstance(value, np.ndarray):
            value = value.item()
        if not isinstance(value, (bool, int, float, complex, np.generic, ndarray)):
            raise TypeError(f"Unsupported type {type(value)}")
        tally(launch=1)
        with np.errstate(all="ignore"):
            self._a[...] = value._a if isinstance(value, ndarray) else value

    def __getattr__(self, name):
        raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}"
                             if name.startswith("__") or name not in API["ndarray"] else
                             f"ndarray.{name} exists in CuPy; the double does not offer it")


ndarray.__module__ = "cupy"
ndarray.__qualname__ = "ndarray"


def checked(dtype: np.dtype) -> np.dtype:
    if dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def fresh(a) -> ndarray:
    "A new allocation that holds `a`; scalars become 0-d device arrays."
    tally(alloc=1)
    return object.__new__(ndarray)._take(np.asarray(a))


def view(a: np.ndarray, owner: ndarray) -> ndarray:
    "`a`, which lies in the memory of `owner`; counts nothing."
    made = object.__new__(ndarray)
    made._a, made._mem = a, owner._mem
    made.base = owner if owner.base is None else owner.base
    return made


def method(name: str, f) -> None:
    "Give `ndarray` the method `name`, guarded by CuPy's signature."
    def bound(self, *args, **kwargs):
        bind("ndarray", name, args, kwargs)
        return f(self, *args, **kwargs)
    bound.__name__ = name
    setattr(ndarray, name, bound)
