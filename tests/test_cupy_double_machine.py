"""What the double of CuPy counts, its kernels, and the machines it pretends to be."""

import sys

import cupy_double
import numpy as np
import pytest
from cupy_double import SilentOnGPU, counting
from cupy_double.api import API, kind


@pytest.fixture
def xp():
    yield cupy_double.install()
    cupy_double.uninstall()


@pytest.fixture
def d(xp):
    r = np.random.default_rng(0)
    shapes = {"x": (6, 4, 5), "W": (5, 32), "R": (8, 32), "b": (32,)}
    return {k: xp.asarray(r.normal(size=s).astype("f4")) for k, s in shapes.items()}


def traffic(c):
    return {k: v for k, v in c.as_dict().items() if v}


def sigmoid(xp, x):
    return 0.5 * (xp.tanh(0.5 * x) + 1)


def lstm_step(xp, z, h, c, R):
    a = z + h @ R  # 2
    i, f, g, o = (a[:, k * 8:(k + 1) * 8] for k in range(4))
    c = sigmoid(xp, f) * c + sigmoid(xp, i) * xp.tanh(g)  # 4 + 1 + 4 + 1 + 1 + 1
    return sigmoid(xp, o) * xp.tanh(c), c  # 4 + 1 + 1


def test_lstm_step_counts_exactly(xp, d):
    z = (d["x"].reshape(24, 5) @ d["W"] + d["b"]).reshape(6, 4, 32)
    h = c = xp.zeros((4, 8), "f4")
    with counting() as n:
        for t in range(6):
            h, c = lstm_step(xp, z[t], h, c, d["R"])
    assert traffic(n) == {"launch": 6 * 20, "alloc": 6 * 20}
    reference = [v.get() for v in (z, d["R"])]
    hn = cn = np.zeros((4, 8), "f4")
    for t in range(6):
        hn, cn = lstm_step(np, reference[0][t], hn, cn, reference[1])
    np.testing.assert_allclose(h.get(), hn, rtol=1e-5)


def test_preallocated_step_allocates_nothing(xp):
    h, R, a = xp.ones((4, 8), "f4"), xp.ones((8, 8), "f4"), xp.empty((4, 8), "f4")
    with counting() as c:
        xp.matmul(h, R, out=a)
        a += 1
        a *= 0.5
        xp.tanh(a, out=a)
        a[0] = 0
        a[1:2] += a[2:3]
        h[...] = a
    assert traffic(c) == {"launch": 7}


EXACT = {
    "zeros": (lambda xp, a: xp.zeros(3), {"launch": 1, "alloc": 1}),
    "empty": (lambda xp, a: xp.empty(3), {"alloc": 1}),
    "asarray": (lambda xp, a: xp.asarray(np.zeros(3)), {"h2d": 1, "alloc": 1}),
    "asarray(list)": (lambda xp, a: xp.asarray([1, 2]), {"h2d": 1, "alloc": 1}),
    "asarray(scalar)": (lambda xp, a: xp.asarray(1.0), {"launch": 1, "alloc": 1}),
    "asarray(device)": (lambda xp, a: xp.asarray(a), {}),
    "asarray([device])": (lambda xp, a: xp.asarray([a, a]), {"launch": 1, "alloc": 1}),
    "scalar arithmetic": (lambda xp, a: 2 * a + 1, {"launch": 2, "alloc": 2}),
    "sum": (lambda xp, a: a.sum(), {"launch": 1, "alloc": 1}),
    "sum out": (lambda xp, a: a.sum(0, out=a[0]), {"launch": 1}),
    "where": (lambda xp, a: xp.where(a > 0, a, 0), {"launch": 2, "alloc": 2}),
    "where casts": (lambda xp, a: xp.where(a, a, 0), {"launch": 2, "alloc": 2}),
    "stack": (lambda xp, a: xp.stack([a, a]), {"launch": 1, "alloc": 1}),
    "norm": (lambda xp, a: xp.linalg.norm(a), {"launch": 3, "alloc": 1}),
    "get": (lambda xp, a: a.get(), {"d2h": 1, "sync": 1}),
    "get of a strided view": (lambda xp, a: a[:, ::2].get(),
                              {"launch": 1, "alloc": 1, "d2h": 1, "sync": 1}),
    "get without waiting": (lambda xp, a: a.get(blocking=False), {"d2h": 1}),
    "set": (lambda xp, a: a.set(np.zeros((3, 4))), {"h2d": 1}),
    "setitem scalar": (lambda xp, a: a.__setitem__(0, 1.0), {"launch": 1}),
    "setitem itself": (lambda xp, a: a.__setitem__(0, a[0]), {}),
    "gather": (lambda xp, a: a[xp.asarray(0)[None]], {"launch": 2, "alloc": 2}),
    "synchronize": (lambda xp, a: xp.cuda.Stream.null.synchronize(), {"sync": 1}),
    "divmod": (lambda xp, a: divmod(a, 2), {"launch": 1, "alloc": 2}),
    "shape": (lambda xp, a: (xp.shape(a), xp.size(a), a.ndim, xp.result_type(a, "f4")), {}),
    "strided out": (lambda xp, a: xp.matmul(a, a.T, out=xp.empty((3, 6))[:, ::2]),
                    {"launch": 2, "alloc": 2}),
}


@pytest.mark.parametrize("name", EXACT)
def test_counts(name, xp):
    a = xp.asarray(np.ones((3, 4)))
    f, expected = EXACT[name]
    with counting() as c:
        f(xp, a)
    assert traffic(c) == expected


def test_counts_nest_and_reset(xp):
    cupy_double.count.reset()
    with counting() as outer:
        xp.zeros(1)
        with counting() as inner:
            xp.zeros(1)
    xp.zeros(1)
    assert (outer.launch, inner.launch, cupy_double.count.launch) == (2, 1, 3)


def test_memory_pool_follows_live_arrays(xp):
    pool = xp.get_default_memory_pool()
    start = pool.used_bytes()
    a = xp.zeros((1000, 10), "f4")
    v = a[:5]
    del a
    assert pool.used_bytes() == start + 40448  # 512-byte blocks; the view keeps its buffer
    del v
    assert pool.used_bytes() == start


# --- other types, kernels, installing

class Recorded:
    "Stands for a Tensor: asks NumPy and CuPy to leave operators to it."
    __array_ufunc__ = None

    def __radd__(self, other): return "mine"
    def __rmatmul__(self, other): return "mine"
    def __array__(self, dtype=None, copy=None): return np.zeros(3)


def test_operators_defer_and_functions_refuse_other_types(xp):
    x, t = xp.ones((3, 3)), Recorded()
    assert x + t == x @ t == "mine"
    for f in (lambda: xp.tanh(t), lambda: xp.add(x, t), lambda: xp.stack([x, t])):
        with pytest.raises(TypeError):
            f()


def test_gemm_accumulates(xp):
    from cupy.cublas import gemm
    a, b, out = xp.ones((2, 3), "f4"), xp.ones((4, 3), "f4"), xp.ones((2, 4), "f4")
    with counting() as c:
        assert gemm("N", "T", a, b, out=out, beta=1.0) is out
    assert traffic(c) == {"launch": 1} and (out.get() == 4).all()
    out.fill(np.nan)
    gemm("N", "T", a, b, out)
    assert (out.get() == 3).all()


def test_kernels(xp):
    source = 'extern "C" __global__ void twice(float* x, int n) {}'
    kernel = xp.RawModule(code=source).get_function("twice")
    a = xp.ones((2, 3), "f4")
    with pytest.raises(NotImplementedError, match="cannot run CUDA source"):
        kernel((1,), (32,), (a, np.int32(6)))
    with pytest.raises(SilentOnGPU, match="strides"):
        kernel((1,), (32,), (a.T, np.int32(6)))
    with pytest.raises(SilentOnGPU, match="8 bytes"):
        kernel((1,), (32,), (a, 6))
    with pytest.raises(TypeError, match="Unsupported type"):
        kernel((1,), (32,), (np.ones(3), np.int32(6)))
    with pytest.raises(NotImplementedError, match="cannot run CUDA source"):
        xp.ElementwiseKernel("T x", "T y", "y = x", "same")(a)
    cupy_double.stand_in("twice", lambda grid, block, args: args[0].__imul__(2))
    with counting() as c:
        kernel((1,), (32,), (a, np.int32(6)))
    cupy_double.stand_in("twice")
    assert traffic(c) == {"launch": 1} and (a.get() == 2).all()

    @xp.fuse()
    def squash(x, y):
        return xp.tanh(x * y + 1)

    with counting() as c:
        squash(a, a)
    assert traffic(c) == {"launch": 1, "alloc": 1}


def test_installs_itself():
    before = sys.modules.get("cupy")
    xp = cupy_double.install()
    import cupy
    import cupy.cuda.runtime
    import cupyx
    from cupy.linalg import norm
    assert cupy is xp and type(xp.zeros(1)).__module__ == "cupy" and norm is xp.linalg.norm
    assert xp.get_array_module(xp.zeros(1)) is xp and xp.get_array_module(np.zeros(1)) is np
    assert xp.__version__ == API["version"] and cupyx.scatter_add and cupy.cuda.is_available()
    with pytest.raises(ImportError):
        import cupy.cudnn  # noqa: F401
    cupy_double.uninstall()
    assert sys.modules.get("cupy") is before


def first_use(cupy):
    return float((cupy.zeros((2, 2), "f4") @ cupy.zeros((2, 2), "f4") + 1).sum())


def test_machine_without_driver():
    with cupy_double.installed(gpus=0) as cupy:
        runtime = cupy.cuda.runtime
        assert runtime.driverGetVersion() == 0 and runtime.runtimeGetVersion() == 13020
        assert not cupy.cuda.is_available() and cupy.get_array_module(1) is np
        cupy.RawModule(code=""), cupy.fuse(abs)
        for f in (runtime.getDeviceCount, lambda: cupy.zeros(1), lambda: cupy.asarray([1]),
                  lambda: cupy.random.default_rng(0), cupy.cuda.Stream, cupy.cuda.Device,
                  lambda: cupy.get_default_memory_pool().used_bytes()):
            with pytest.raises(runtime.CUDARuntimeError, match="cudaErrorInsufficientDriver") as e:
                f()
            assert isinstance(e.value, RuntimeError) and e.value.status == 35
    with (cupy_double.installed(gpus=0, driver=13000) as cupy,
          pytest.raises(RuntimeError, match="cudaErrorNoDevice")):
        cupy.cuda.runtime.getDeviceCount()


def test_machine_without_libraries():
    with cupy_double.installed(broken="nvrtc") as cupy:
        assert cupy.cuda.runtime.getDeviceCount() == 1
        cupy.zeros((2, 2)) @ cupy.zeros((2, 2))
        with pytest.raises(RuntimeError, match="libnvrtc.so.13") as e:
            first_use(cupy)
        assert type(e.value).__name__ == "DynamicLibNotFoundError"
    with cupy_double.installed(broken="cublas") as cupy:
        with pytest.raises(ImportError, match="libcublasLt.so.13"):
            first_use(cupy)
        with pytest.raises(ImportError):
            import cupy.cublas  # noqa: F401
    with cupy_double.installed(broken="import"), pytest.raises(ImportError):
        import cupy  # noqa: F811
    with cupy_double.installed() as cupy:
        assert first_use(cupy) == 4


def test_offers_only_what_cupy_has(xp):
    for section, module in ((n, sys.modules[n]) for n in API if n in sys.modules):
        extra = {n for n in vars(module) if not n.startswith("_")} - set(API[section])
        assert extra <= {"cuda", "random", "linalg", "runtime", "profiler",
                         "Generator"}, (section, extra)
    own = {n for n in dir(xp.ndarray) if not n.startswith("_")}
    assert own <= set(API["ndarray"])
    dunders = {n for n in vars(xp.ndarray) if n.startswith("__")} - set(API["ndarray dunders"])
    assert dunders <= {"__contains__", "__getattr__", "__dict__", "__weakref__", "__qualname__",
                       "__firstlineno__", "__static_attributes__"}
    for n in ("Stream", "Event", "Device", "MemoryPool", "MemoryPointer"):
        cls = getattr(xp.cuda, n)
        assert {m for m in vars(cls) if not m.startswith("_")} <= set(API[n])


EXPORTED = """tanh exp log log1p sqrt sin cos floor abs sign maximum minimum where clip isfinite
isnan logical_and stack concatenate sum mean argmax argsort matmul transpose reshape
ravel flip cumsum expand_dims broadcast_to zeros_like ones_like empty_like zeros ones
empty arange asarray einsum take_along_axis ascontiguousarray"""


def test_numpy_twins_exist_for_the_backend(xp):
    "Nothing that the backend exports is left to NotImplementedError."
    for n in EXPORTED.split():
        assert kind("cupy", n)[0] in ("def", "ufunc")
        f = getattr(xp, n)
        assert "missing" not in getattr(f, "__qualname__", "")
