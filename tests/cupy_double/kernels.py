"""User-defined kernels: they can be constructed, and a test may put Python in their place."""

import functools

import numpy as np

from .array import ndarray
from .calls import operands
from .machine import SilentOnGPU, tally, uncounted

_stand_ins = {}


def stand_in(name: str, f=None) -> None:
    """Let `f(grid, block, args)` act for the RawKernel `name`, with NumPy arrays in `args`.

    `stand_in(name)` takes it away. It tests the caller of a kernel, never the kernel.
    """
    if f is None:
        _stand_ins.pop(name, None)
    else:
        _stand_ins[name] = f


def _refuse_source(what: str):
    tally(launch=1)
    raise NotImplementedError(f"the double cannot run CUDA source: {what}; "
                              "run it on a GPU, or put a stand_in(name, f) in its place")


class RawKernel:
    "Checks its launch as far as a machine without a GPU can."

    def __init__(self, code, name, options=(), backend="nvrtc", translate_cucomplex=False, *,
                 enable_cooperative_groups=False, jitify=None):
        self.code, self.name, self.options, self.backend = code, name, options, backend
        self.enable_cooperative_groups = enable_cooperative_groups
        self.max_dynamic_shared_size_bytes = 49152
        self.num_regs, self.max_threads_per_block, self.attributes = 32, 1024, {}

    def compile(self, log_stream=None) -> None:
        tally()

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None, **kwargs) -> None:
        for n in (grid, block):
            if not isinstance(n, tuple) or not all(isinstance(i, (int, np.integer)) for i in n):
                raise TypeError(f"grid and block must be tuples of integers, got {grid}, {block}")
        raw = [self._argument(i, a) for i, a in enumerate(args)]
        if self.name not in _stand_ins:
            _refuse_source(f"RawKernel {self.name!r}")
        tally(launch=1)
        _stand_ins[self.name](grid, block, raw)

    def _argument(self, i: int, a):
        if isinstance(a, ndarray):
            if not a.flags.c_contiguous:
                raise SilentOnGPU(f"argument {i} of {self.name!r} has strides {a.strides} for "
                                  f"shape {a.shape}: a kernel sees only its first byte; "
                                  "pass ascontiguousarray(a)")
            return a._a
        if isinstance(a, (bool, int, float, complex)):
            raise SilentOnGPU(f"argument {i} of {self.name!r} is a Python {type(a).__name__}, which"
                              " travels as 8 bytes whatever the kernel declares; write np.int32(n)")
        if isinstance(a, np.generic):
            return a
        raise TypeError(f"Unsupported type {type(a)}")


class RawModule:
    def __init__(self, code=None, *, path=None, options=(), backend="nvrtc",
                 translate_cucomplex=False, enable_cooperative_groups=False,
                 name_expressions=None, jitify=None):
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        self.code, self.file_path, self.options, self.backend = code, path, options, backend
        self.name_expressions = name_expressions
        self.enable_cooperative_groups = enable_cooperative_groups

    def compile(self, log_stream=None) -> None:
        tally()

    def get_function(self, name: str) -> RawKernel:
        if self.code is not None and self.name_expressions is None and name not in self.code:
            raise RuntimeError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return RawKernel(self.code, name, self.options, self.backend,
                         enable_cooperative_groups=self.enable_cooperative_groups)


class ElementwiseKernel:
    def __init__(self, in_params, out_params, operation, name="kernel", reduce_dims=True,
                 preamble="", no_return=False, return_tuple=False, **kwargs):
        self.in_params, self.out_params, self.operation, self.name = (
            in_params, out_params, operation, name)

    def __call__(self, *args, **kwargs):
        _refuse_source(f"{type(self).__name__} {self.name!r}")


class ReductionKernel(ElementwiseKernel):
    def __init__(self, in_params, out_params, map_expr, reduce_expr, post_map_expr, identity,
                 name="reduce_kernel", reduce_type=None, reduce_dims=True, preamble="",
                 options=()):
        super().__init__(in_params, out_params, map_expr, name)


def fuse(*args, **kwargs):
    "`@fuse`, `@fuse()`, `@fuse(kernel_name=...)`: the function itself, counted as one launch."
    if set(kwargs) - {"kernel_name"}:
        raise TypeError(f"fuse() got an unexpected keyword argument {sorted(kwargs)[0]!r}")
    if not args or not callable(args[0]):
        return lambda f: fuse(f, **kwargs)
    f = args[0]

    @functools.wraps(f)
    def fused(*inputs):
        given = operands(list(inputs))
        if not given:
            return f(*inputs)
        with uncounted():
            r = f(*inputs)
        made = [v for v in operands([r]) if all(v is not x for x in given)]
        tally(launch=1, alloc=len(made))
        return r
    fused.clear_cache = lambda: None
    return fused


KERNELS = {k.__name__: k for k in (RawKernel, RawModule, ElementwiseKernel, ReductionKernel, fuse)}
