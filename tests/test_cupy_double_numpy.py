"""The double of CuPy computes what NumPy computes, with CuPy's dtypes."""

import cupy_double
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def xp():
    yield cupy_double.install()
    cupy_double.uninstall()


def test_nep_50(xp):
    x = xp.ones(3, "f4")
    assert (x * 0.5).dtype == (2 ** x).dtype == (x / 3).dtype == "f4"
    assert xp.where(x > 0, x, 0.0).dtype == "f4"
    assert (x * np.float64(0.5)).dtype == (np.float64(0.5) * x).dtype == "f8"
    assert (x / np.sqrt(8)).dtype == "f8" and (x.sum() * 2).dtype == "f4"
    assert (xp.ones(3, "i4") + 1).dtype == "i4" and (xp.ones(3, "i4") * 1.0).dtype == "f8"
    assert xp.sum(xp.ones(3, "i4")).dtype == "i8" and xp.argmax(x).dtype == "i8"
    assert xp.argmax(x, dtype="i4").dtype == x.argmax(dtype="i4").dtype == "i4"
    assert isinstance(x.sum(), xp.ndarray) and x.sum().shape == x[0].shape == ()
    assert xp.zeros(2).dtype == xp.asarray([1.0]).dtype == "f8"
    with pytest.raises(TypeError):
        x_int = xp.ones(3, "i4")
        x_int += 0.5


def mix(xp, n, seed):
    u = xp.uint32
    z = xp.arange(n, dtype=u) * u(0x9E3779B1) + u(seed)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        z ^= z >> u(shift)
        z *= u(factor)
    return (z ^ (z >> 16)) & 0xFFFFFFFF


def test_uint32_hash_wraps_like_numpy(xp):
    got = mix(xp, 1000, 7)
    assert got.dtype == "u4" and (got.get() == mix(np, 1000, 7)).all()
    zero_d = xp.asarray(np.uint32(4000000000)) * xp.asarray(np.uint32(3))
    assert int(zero_d) == 12000000000 % 2**32
    assert ((xp.asarray([5], "u4") << 31) | 1).get()[0] == 2**31 + 1


# --- agreement with NumPy

UNARY = """exp tanh sin cos arctan absolute sign square sqrt log1p floor ceil rint isfinite isnan
negative reciprocal expm1 log sinh isinf signbit cbrt sum mean max min prod std var argmax argmin
any all cumsum cumprod ptp ravel transpose flip sort argsort count_nonzero zeros_like ones_like
nan_to_num tril triu unique diff median logical_not"""
BINARY = """add subtract multiply divide maximum minimum power equal not_equal less less_equal
greater greater_equal logical_and logical_or arctan2 hypot logaddexp floor_divide remainder copysign
allclose isclose array_equal fmax fmin"""
AGREE = {
    **{n: lambda xp, a, b, _n=n: getattr(xp, _n)(a) for n in UNARY.split()},
    **{n: lambda xp, a, b, _n=n: getattr(xp, _n)(a, b) for n in BINARY.split()},
    "matmul": lambda xp, a, b: xp.matmul(a, b.T), "dot": lambda xp, a, b: xp.dot(a, b.T),
    "einsum": lambda xp, a, b: xp.einsum("ij,kj->ik", a, b),
    "tensordot": lambda xp, a, b: xp.tensordot(a, b, axes=([1], [1])),
    "batched": lambda xp, a, b: a[None] @ b.T[None], "outer": lambda xp, a, b: xp.outer(a, b),
    "stack": lambda xp, a, b: xp.stack([a, b], axis=1),
    "vstack": lambda xp, a, b: xp.vstack([a, b]),
    "concatenate": lambda xp, a, b: xp.concatenate((a, b), axis=-1),
    "split": lambda xp, a, b: xp.split(a, [1], axis=0)[1],
    "roll": lambda xp, a, b: xp.roll(a, 1, 0),
    "where": lambda xp, a, b: xp.where(a > b, a, 0.0), "clip": lambda xp, a, b: xp.clip(a, -1, 0.5),
    "axis sum": lambda xp, a, b: a.sum(axis=0, keepdims=True), "pad": lambda xp, a, b: xp.pad(a, 1),
    "take_along": lambda xp, a, b: xp.take_along_axis(a, xp.argmax(a, axis=1)[:, None], 1),
    "take": lambda xp, a, b: xp.take(a, xp.zeros(2, "i4"), axis=0), "mod": lambda xp, a, b: a % 0.3,
    "repeat": lambda xp, a, b: xp.repeat(a, 2, axis=0), "tile": lambda xp, a, b: xp.tile(a, (2, 1)),
    "broadcast": lambda xp, a, b: xp.broadcast_to(a[0], a.shape), "kron": lambda xp, a, b:
        xp.kron(a, b), "norm": lambda xp, a, b: xp.linalg.norm(a),
    "norm axis": lambda xp, a, b: xp.linalg.norm(a, axis=1), "svd": lambda xp, a, b:
        xp.linalg.svd(a, compute_uv=False), "qr": lambda xp, a, b: abs(xp.linalg.qr(a)[1]),
    "solve": lambda xp, a, b: xp.linalg.solve(a @ a.T + xp.eye(a.shape[0]), b),
    "mask": lambda xp, a, b: a[a > 0], "gather": lambda xp, a, b: a[xp.arange(a.shape[0]), 0],
    "softmax": lambda xp, a, b: xp.exp(a - a.max(1, keepdims=True)),
    "abs": lambda xp, a, b: abs(-a),
    "arange": lambda xp, a, b: xp.arange(2, 9, 3),
    "linspace": lambda xp, a, b: xp.linspace(0, 1, 5),
    "full": lambda xp, a, b: xp.full((2, 2), 3), "eye": lambda xp, a, b: xp.eye(3, k=1),
    "meshgrid": lambda xp, a, b: xp.meshgrid(a[0], b[0])[1], "pow": lambda xp, a, b: a ** 2,
    "np.tanh": lambda xp, a, b: np.tanh(a), "np.concatenate": lambda xp, a, b:
        np.concatenate([a, b]), "np.linalg.norm": lambda xp, a, b: np.linalg.norm(a),
    "astype": lambda xp, a, b: a.astype("f2"), "bitwise": lambda xp, a, b: ~((a > 0) ^ (b > 0)),
    "searchsorted": lambda xp, a, b: xp.searchsorted(xp.sort(a[0]), b[0]),
}


@pytest.mark.parametrize("name", AGREE)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 5), m=st.integers(1, 5),
       dtype=st.sampled_from(["f4", "f8"]))
def test_agrees_with_numpy(name, seed, n, m, dtype):
    r = np.random.default_rng(seed)
    a, b = (r.normal(size=(n, m)).astype(dtype) for _ in range(2))
    with cupy_double.installed() as xp, np.errstate(all="ignore"):
        got = AGREE[name](xp, xp.asarray(a), xp.asarray(b))
        want = np.asarray(AGREE[name](np, a, b))
        assert isinstance(got, xp.ndarray) and got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got.get(), want, rtol=1e-6)


def test_generator(xp):
    g = xp.random.default_rng(3)
    assert g.standard_normal((2, 3), dtype="f4").dtype == "f4" and g.random().shape == ()
    assert g.integers(0, 5, size=4).dtype == "i8" and g.uniform(size=3).shape == (3,)
    out = xp.empty((2, 2), "f4")
    assert g.random(dtype="f4", out=out) is out and not np.isnan(out.get()).any()
    assert xp.random.normal(size=3, dtype="f4").dtype == "f4"
    assert xp.random.rand(2, 2).shape == (2, 2)
