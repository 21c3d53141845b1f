"""Arrays from host data, and files."""

import numpy as np

from .api import bind
from .array import checked, fresh, ndarray, view
from .calls import host, results
from .machine import tally


def _nested(obj) -> tuple[bool, bool]:
    "Whether a nested sequence holds device arrays, and whether it holds anything else."
    if isinstance(obj, ndarray):
        return True, False
    if isinstance(obj, (list, tuple)):
        kinds = [_nested(x) for x in obj]
        return any(k[0] for k in kinds), any(k[1] for k in kinds)
    return False, True


def _from_host(obj, dtype, order, ndmin: int = 0) -> ndarray:
    device, other = _nested(obj)
    if device and other:
        np.array(obj)  # raises: device arrays beside host data
    if device:
        tally(launch=1)
        return fresh(np.array(host(obj), dtype, order=order or "K", ndmin=ndmin))
    a = np.array(obj, dtype, order=order or "K", ndmin=ndmin)
    checked(a.dtype)
    tally(**({"h2d": 1} if a.ndim else {"launch": 1}))
    return fresh(a)


def array(*args, **kwargs):
    given = bind("cupy", "array", args, kwargs)
    if given.get("subok"):
        raise NotImplementedError("subok=True is not supported")
    obj, dtype, order = given["obj"], given.get("dtype"), given.get("order", "K")
    ndmin = given.get("ndmin", 0)
    if not isinstance(obj, ndarray):
        return _from_host(obj, dtype, order, ndmin)
    made = obj.astype(obj.dtype if dtype is None else dtype, order=order or "K",
                      copy=given.get("copy", True) is True)
    if made.ndim < ndmin:
        return view(made._a.reshape((1,) * (ndmin - made.ndim) + made.shape), made)
    return made


def asarray(*args, **kwargs):
    given = bind("cupy", "asarray", args, kwargs)
    a, dtype, order = given["a"], given.get("dtype"), given.get("order")
    if not isinstance(a, ndarray):
        if given.get("copy") is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        return _from_host(a, dtype, order)
    return a.astype(a.dtype if dtype is None else dtype, order=order or "K",
                    copy=bool(given.get("copy")))


def _contiguous(name: str, f):
    def call(*args, **kwargs):
        given = bind("cupy", name, args, kwargs)
        a, dtype = given["a"], given.get("dtype")
        if not isinstance(a, ndarray):
            return _from_host(a, dtype, "C" if name == "ascontiguousarray" else "F")
        return results(f(a._a, dtype), [a])
    call.__name__ = name
    return call


def copy(*args, **kwargs):
    given = bind("cupy", "copy", args, kwargs)
    a = given["a"]
    if not isinstance(a, ndarray):
        return _from_host(a, None, given.get("order"))
    return a.copy(order=given.get("order", "K"))


def asnumpy(*args, **kwargs):
    given = bind("cupy", "asnumpy", args, kwargs)
    a, order, out = given["a"], given.get("order", "C"), given.get("out")
    if isinstance(a, ndarray):
        return a.get(order=order, out=out, blocking=given.get("blocking", True))
    made = np.asarray(a, order=order)
    if out is not None:
        out[...] = made
    return made if out is None else out


def _saves(name: str, f):
    def call(file, *args, **kwargs):
        return f(file, *(asnumpy(a) for a in args),
                 **{k: asnumpy(v) if isinstance(v, ndarray) else v for k, v in kwargs.items()})
    call.__name__ = name
    return call


def load(*args, **kwargs):
    "A `.npy` file on the device; an `.npz` archive moves each array when it is asked for."
    bind("cupy", "load", args, kwargs)
    got = np.load(*args, **kwargs)
    return asarray(got) if isinstance(got, np.ndarray) else Archive(got)


class Archive:
    "The double of `cupy.lib` 's NpzFile."

    def __init__(self, files):
        self.npz_file = files
        self.files = files.files

    def __getitem__(self, name: str) -> ndarray:
        return asarray(self.npz_file[name])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self.npz_file.close()


FUNCTIONS = {
    "array": array, "asarray": asarray, "asanyarray": asarray, "copy": copy, "asnumpy": asnumpy,
    "ascontiguousarray": _contiguous("ascontiguousarray", np.ascontiguousarray),
    "asfortranarray": _contiguous("asfortranarray", np.asfortranarray),
    "load": load, "save": _saves("save", np.save), "savez": _saves("savez", np.savez),
    "savez_compressed": _saves("savez_compressed", np.savez_compressed),
}
