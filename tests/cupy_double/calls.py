"""How a CuPy call is carried out by NumPy: arguments checked, traffic counted, views kept."""

import numpy as np

from .api import bind
from .array import fresh, ndarray, view
from .machine import SilentOnGPU, tally

# Parameters that CuPy uses as device arrays; lists and host arrays are refused there.
ARRAYS = {"a", "b", "x", "y", "x1", "x2", "m", "v", "ary", "arr", "array", "condition", "a1", "a2"}
# Host data that CuPy moves itself.
MOVES = {("take", "indices"), ("take_along_axis", "indices"), ("put", "ind"), ("put", "indices"),
         ("compress", "condition")}

MEMSETS = {"zeros", "zeros_like"}


def refuse(x):
    raise TypeError(f"Unsupported type {type(x)}")


def host(x):
    "`x` with NumPy arrays in place of device arrays; host arrays are refused."
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, (list, tuple)):
        return type(x)(host(v) for v in x)
    if isinstance(x, np.ndarray):
        refuse(x)
    if hasattr(x, "__array__") and not isinstance(x, (type, np.generic)):
        refuse(x)
    return x


def operands(x) -> list[ndarray]:
    "The device arrays in `x`, one level of lists and tuples deep."
    if isinstance(x, ndarray):
        return [x]
    return [v for y in x for v in operands(y)] if isinstance(x, (list, tuple)) else []


def check_out(out) -> None:
    if out is not None and not isinstance(out, ndarray):
        raise TypeError("Argument 'out' has incorrect type (expected cupy._core.core._ndarray_base,"
                        f" got {type(out).__module__}.{type(out).__name__})")


def check(name: str, given: dict) -> dict:
    "Refuse what CuPy refuses in the arguments; the host indices that it moves, by id."
    moved = {}
    for key, v in given.items():
        if key == "out":
            check_out(v)
        elif (name, key) in MOVES and isinstance(v, (list, tuple, np.ndarray)):
            tally(h2d=1, alloc=1)
            moved[id(v)] = np.asarray(v)
        elif key in ARRAYS and not isinstance(v, ndarray):
            scalar = isinstance(v, (bool, int, float, complex, np.generic))
            if key in ("a", "condition") or not (scalar or v is None):
                refuse(v)
    return moved


def results(r, inputs: list[ndarray], launches: int = 1, writes: bool = False,
            compiled: bool = True):
    "Device arrays for what NumPy returned: views of inputs stay views and count nothing."
    made = 0

    def one(v):
        nonlocal made
        if v is None or isinstance(v, (str, np.dtype, type)):
            return v
        if isinstance(v, (list, tuple)):
            return [one(i) for i in v] if isinstance(v, list) else tuple(one(i) for i in v)
        for x in inputs if isinstance(v, np.ndarray) else ():
            if v is x._a:
                return x
            if v.size and np.may_share_memory(v, x._a):
                return view(v, x)
        made += 1
        return fresh(v)

    answer = one(r)
    if made or writes:
        tally(compiled, launch=launches)
    return answer


def run(section: str, name: str, f, args: tuple, kwargs: dict, launches: int = 1,
        writes: bool = False, method: ndarray | None = None):
    "Call NumPy's `f` as CuPy's `name`."
    given = bind(section, name, args, kwargs)
    moved = check(name, given)
    first = [] if method is None else [method]
    inputs = first + operands(list(args)) + operands(list(kwargs.values()))
    tally()
    args = tuple(moved[id(v)] if id(v) in moved else host(v) for v in args)
    kwargs = {k: moved[id(v)] if id(v) in moved else host(v) for k, v in kwargs.items()}
    try:
        with np.errstate(all="ignore"):
            r = f(*(x._a for x in first), *args, **kwargs)
    except IndexError as e:
        if "out of bounds" in str(e) and name.startswith(("take", "put")):
            raise SilentOnGPU(f"{e}: CuPy would wrap around silently") from None
        raise
    writes = writes or given.get("out") is not None
    return results(r, inputs, launches, writes, compiled=name not in MEMSETS)
