"""Universal functions, and the operators of `ndarray` that use them."""

import numpy as np

from .api import API, kind
from .array import fresh, ndarray
from .calls import refuse
from .indexing import SCALARS, scatter
from .machine import tally


class ufunc:
    "The double of one `cupy.ufunc`."

    def __init__(self, name: str, nin: int = 1, nout: int = 1, scatter_op: str = "", f=None):
        self.name, self.__name__ = f"cupy_{name}", name
        self.nin, self.nout, self.nargs = nin, nout, nin + nout
        self._f, self._scatter = f or getattr(np, name), scatter_op

    def __repr__(self) -> str:
        return f"<ufunc {self.name!r}>"

    def __call__(self, *args, out=None, dtype=None, casting="same_kind", **wrong):
        if wrong:
            raise TypeError(f"Wrong arguments {wrong}")
        if len(args) not in (self.nin, self.nargs):
            raise TypeError(f"Wrong number of arguments for {self.name!r}. It must be either "
                            f"{self.nin} or {self.nargs} (with outputs), but given {len(args)}.")
        ins = [_operand(x) for x in args[:self.nin]]
        outs = self._outs(args[self.nin:], out)
        shape = np.broadcast_shapes(*(np.shape(x) for x in ins))
        for o in outs:
            if o is not None and o.shape != shape:
                raise ValueError("Out shape is mismatched")
        tally(launch=1)
        r = self._compute(ins, outs, dtype, casting)
        made = [fresh(v) if o is None else o for v, o in zip(r, outs, strict=True)]
        return made[0] if self.nout == 1 else tuple(made)

    def _outs(self, positional: tuple, out) -> list:
        if out is not None and positional:
            raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
        given = out if isinstance(out, tuple) else positional or (out,) + (None,) * (self.nout - 1)
        for o in given:
            if o is not None and not isinstance(o, ndarray):
                refuse(o)
        return list(given)

    def _compute(self, ins, outs, dtype, casting) -> list:
        with np.errstate(all="ignore"):
            if isinstance(self._f, np.ufunc):
                raw = tuple(None if o is None else o._a for o in outs)
                if dtype is not None and self._f.nout == 1:
                    dtype = np.dtype(dtype)
                r = self._f(*ins, out=raw, dtype=dtype, casting=casting)
                return list(r) if self.nout > 1 else [r]
            r = np.asarray(self._f(*ins), dtype=dtype)
        if outs[0] is not None:
            np.copyto(outs[0]._a, r, casting=casting)
        return [r]

    def at(self, a, indices, b=None) -> None:
        if not self._scatter:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        scatter(self._scatter, a, indices, b)

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        if self.__name__ == "add":
            return array.sum(axis, dtype, out, keepdims)
        if self.__name__ == "multiply":
            return array.prod(axis, dtype, out, keepdims)
        raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")

    def accumulate(self, array, axis=0, dtype=None, out=None):
        if self.__name__ == "add":
            return array.cumsum(axis, dtype, out)
        if self.__name__ == "multiply":
            return array.cumprod(axis, dtype, out)
        raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")

    def outer(self, A, B, **kwargs):
        return self(A.reshape(A.shape + (1,) * B.ndim), B, **kwargs)

    def reduceat(self, *args, **kwargs):
        raise NotImplementedError("the double does not offer ufunc.reduceat")


ufunc.__module__ = "cupy"


def _operand(x):
    if isinstance(x, ndarray):
        return x._a
    return x if isinstance(x, SCALARS) else refuse(x)


def _make(name: str) -> ufunc:
    nin, nout, *op = kind("cupy", name)[1].split()
    return ufunc(name, int(nin), int(nout), *op)


UFUNCS = {n: _make(n) for n in API["cupy"] if kind("cupy", n)[0] == "ufunc" and hasattr(np, n)}
BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
          "floordiv": "floor_divide", "mod": "remainder", "pow": "power", "and": "bitwise_and",
          "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift"}
COMPARE = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
           "ge": "greater_equal"}
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def defers(other) -> bool:
    "Whether `other` asks for its own operator, as NEP 13 says: `__array_ufunc__ = None`."
    return getattr(other, "__array_ufunc__", refuse) is None


def _operators(name: str, f: ufunc) -> None:
    def op(self, other):
        return NotImplemented if defers(other) else f(self, other)

    def reflected(self, other):
        return f(other, self)

    def in_place(self, other):
        return NotImplemented if defers(other) else f(self, other, self)

    setattr(ndarray, f"__{name}__", op)
    if name not in COMPARE:
        setattr(ndarray, f"__r{name}__", reflected)
        setattr(ndarray, f"__i{name}__", in_place)


for _name, _u in {**BINARY, **COMPARE, "divmod": "divmod"}.items():
    _operators(_name, UFUNCS[_u])
del ndarray.__idivmod__
for _name, _u in UNARY.items():
    setattr(ndarray, f"__{_name}__", lambda self, _f=UFUNCS[_u]: _f(self))


def _array_ufunc(self, f, how, *inputs, **kwargs):
    "NumPy's ufuncs on device arrays go to CuPy's, except generalised ones such as `np.matmul`."
    if "out" in kwargs:
        if len(kwargs["out"]) != 1:
            raise ValueError("The 'out' parameter must have exactly one array value")
        kwargs["out"] = kwargs["out"][0]
    if how != "__call__" or f.signature is not None or f.__name__ not in UFUNCS:
        return NotImplemented
    return UFUNCS[f.__name__](*inputs, **kwargs)


ndarray.__array_ufunc__ = _array_ufunc
