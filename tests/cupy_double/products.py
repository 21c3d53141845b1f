"""Matrix products: `matmul`, `dot` and cuBLAS's `gemm`."""

import numpy as np

from . import machine
from .api import bind
from .array import fresh, ndarray
from .calls import check_out, refuse
from .machine import SilentOnGPU, tally
from .ufuncs import UFUNCS, defers


def multiplies() -> None:
    "A product needs cuBLAS."
    tally()
    machine.cublas()


def apart(out: ndarray | None, *inputs: ndarray) -> None:
    for x in inputs:
        if out is not None and np.shares_memory(out._a, x._a):
            raise SilentOnGPU("out= of a product shares memory with an operand: the GPU would "
                              "read entries that it has overwritten")


def _operands(a, b) -> None:
    for x in (a, b):
        if not isinstance(x, ndarray):
            refuse(x)


def matmul(*args, **kwargs):
    bind("cupy", "matmul", args, kwargs)
    out = kwargs.pop("out", None)
    if len(args) == 3:
        args, out = args[:2], args[2]
    out = out[0] if isinstance(out, tuple) else out
    if len(args) != 2:
        raise TypeError(f"matmul takes 2 operands, got {len(args)}")
    _operands(*args)
    check_out(out)
    apart(out, *args)
    multiplies()
    a, b = (x._a for x in args)
    tally(False, launch=1)
    with np.errstate(all="ignore"):
        if out is None:
            return fresh(np.matmul(a, b, **kwargs))
        if out.shape != np.matmul(*(np.empty(x.shape, bool) for x in (a, b))).shape:
            raise ValueError(f"Output operand 0 has invalid shape {out.shape}")
        np.matmul(a, b, out=out._a, **kwargs)
    if not out._a.flags.c_contiguous:
        tally(launch=1, alloc=1)
    return out


def dot(a, b, out=None):
    for x in (a, b):
        if not isinstance(x, ndarray) and (x is a or not np.isscalar(x)):
            refuse(x)
    check_out(out)
    if not isinstance(b, ndarray) or not a.ndim or not b.ndim:
        return UFUNCS["multiply"](a, b, out=out)
    apart(out, a, b)
    multiplies()
    tally(False, launch=1)
    with np.errstate(all="ignore"):
        if out is None:
            return fresh(np.dot(a._a, b._a))
        np.dot(a._a, b._a, out=out._a)
    return out


def gemm(transa, transb, a, b, out=None, alpha=1.0, beta=0.0):
    "`out = alpha op(a) @ op(b) + beta out`, with op N, T or H."
    _operands(a, b)
    check_out(out)
    assert a.ndim == b.ndim == 2
    assert a.dtype == b.dtype
    if a.dtype.char not in "fdFD":
        raise TypeError("invalid dtype")
    apart(out, a, b)
    multiplies()
    turn = {"N": lambda x: x, "T": lambda x: x.T, "H": lambda x: x.T.conj()}
    alpha, beta = (x._a if isinstance(x, ndarray) else x for x in (alpha, beta))
    product = np.matmul(turn[transa](a._a), turn[transb](b._a))
    tally(False, launch=1)
    if out is None:
        return fresh(np.asfortranarray(alpha * product).astype(a.dtype, copy=False))
    assert out.ndim == 2 and out.shape == product.shape and out.dtype == a.dtype
    with np.errstate(all="ignore"):  # with beta = 0 cuBLAS does not read out, so NaN there vanishes
        out._a[...] = alpha * product + (0 if np.all(np.equal(beta, 0)) else beta * out._a)
    if not (out._a.flags.c_contiguous or out._a.flags.f_contiguous):
        tally(launch=2, alloc=1)
    return out


ndarray.__matmul__ = lambda self, o: NotImplemented if defers(o) else matmul(self, o)
ndarray.__rmatmul__ = lambda self, o: matmul(o, self)
