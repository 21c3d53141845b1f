"""What the double of CuPy refuses, and which arrays share memory; nothing here is about a GPU."""

import cupy_double
import numpy as np
import pytest
from cupy_double import SilentOnGPU, counting


@pytest.fixture
def xp():
    yield cupy_double.install()
    cupy_double.uninstall()


@pytest.fixture
def d(xp):
    r = np.random.default_rng(0)
    shapes = {"x": (6, 4, 5), "W": (5, 32), "R": (8, 32), "b": (32,), "p": (4, 7), "E": (7, 8),
              "dE": (4, 8)}
    made = {n: xp.asarray(r.normal(size=s).astype("f4")) for n, s in shapes.items()}
    return {**made, "y": xp.asarray(np.array([1, 2, 2, 5]))}


def traffic(c):
    return {k: v for k, v in c.as_dict().items() if v}


# --- planted bugs: each runs under NumPy and would fail, mislead or crawl on a GPU

def errstate(xp, d):
    with xp.errstate(over="ignore"):
        return xp.exp(d["p"])


def duplicates(xp, d):
    g = xp.zeros_like(d["E"])
    g[d["y"]] += d["dE"]


def host_out(xp, d):
    xp.exp(d["p"], out=np.empty((4, 7), "f4"))


def host_into_slice(xp, d):
    d["p"][0] = np.zeros(7, "f4")


def overlap(xp, d):
    a = d["E"].ravel()
    a[1:] = a[:-1]


def matmul_into_operand(xp, d):
    a = xp.ones((3, 3))
    xp.matmul(a, a, out=a)


def set_mixed_dtype(xp, d):
    d["p"].set(np.zeros((4, 7)))


REFUSED = {
    "host constant": (lambda xp, d: d["x"][0] @ d["W"] + np.zeros(32, "f4"),
                      TypeError, r"Unsupported type <class 'numpy.ndarray'>"),
    "host constant first": (lambda xp, d: np.zeros(32, "f4") + d["x"][0] @ d["W"],
                            TypeError, r"Unsupported type <class 'numpy.ndarray'>"),
    "host product": (lambda xp, d: d["x"][0] @ np.zeros((5, 2), "f4"), TypeError, "Unsupported"),
    "list operand": (lambda xp, d: d["b"] + [1.0] * 32, TypeError,
                     r"Unsupported type <class 'list'>"),
    "np.asarray": (lambda xp, d: np.asarray(d["x"]), TypeError,
                   r"Implicit conversion to a NumPy array is not allowed"),
    "np.array of a list": (lambda xp, d: np.array([d["x"], d["x"]]), TypeError, "Implicit"),
    "np.mean of 0-d arrays": (lambda xp, d: np.mean([xp.mean(d["x"][t]) for t in range(3)]),
                              TypeError, "Implicit"),
    "np.matmul": (lambda xp, d: np.matmul(d["x"][0], d["W"]), TypeError,
                  "all returned NotImplemented"),
    "Generator.normal": (lambda xp, d: xp.random.default_rng(0).normal(size=3),
                         AttributeError, "has no attribute 'normal'"),
    "Generator.permutation": (lambda xp, d: xp.random.default_rng(0).permutation(5),
                              AttributeError, "permutation"),
    "take_along_axis without axis": (
        lambda xp, d: xp.take_along_axis(d["p"], d["y"][:, None]),
        TypeError, r"missing 1 required positional argument: 'axis'"),
    "sum(where=)": (lambda xp, d: xp.sum(d["p"], where=d["p"] > 0), TypeError,
                    r"unexpected keyword argument 'where'"),
    "method sum(where=)": (lambda xp, d: d["p"].sum(where=d["p"] > 0), TypeError, "where"),
    "ufunc(where=)": (lambda xp, d: xp.exp(d["p"], where=d["p"] > 0), TypeError,
                      "Wrong arguments"),
    "errstate": (errstate, AttributeError, "module 'cupy' has no attribute 'errstate'"),
    "block": (lambda xp, d: xp.block([[d["W"]], [d["R"]]]), AttributeError, "block"),
    "vecdot": (lambda xp, d: xp.vecdot(d["p"], d["p"]), AttributeError, "vecdot"),
    "unstack": (lambda xp, d: xp.unstack(d["p"]), AttributeError, "unstack"),
    "duplicate indices": (duplicates, SilentOnGPU, "duplicate indices"),
    "index out of range": (lambda xp, d: d["E"][d["y"] + 3], SilentOnGPU, "wrap around"),
    "take out of range": (lambda xp, d: xp.take(d["E"], d["y"] + 3, axis=0), SilentOnGPU, "wrap"),
    "add.at out of range": (lambda xp, d: xp.add.at(d["E"], d["y"] + 3, d["dE"]),
                            SilentOnGPU, "wrap"),
    "host out": (host_out, TypeError, "Unsupported type"),
    "host out of a reduction": (lambda xp, d: d["p"].sum(0, out=np.empty(7, "f4")), TypeError,
                                "Argument 'out' has incorrect type"),
    "host array into a slice": (host_into_slice, ValueError,
                                "non-scalar numpy.ndarray cannot be used for fill"),
    "set with another dtype": (set_mixed_dtype, TypeError,
                               "float64 array cannot be set to float32"),
    "overlapping store": (overlap, SilentOnGPU, "overlapping"),
    "product into its operand": (matmul_into_operand, SilentOnGPU, "shares memory"),
    "list[argmax]": (lambda xp, d: "abcdefg"[xp.argmax(d["p"][0])], TypeError,
                     "indices must be integers"),
    "range(device)": (lambda xp, d: range(d["y"][0]), TypeError, "as an integer"),
    "slice by device": (lambda xp, d: d["p"][: d["y"][0]], TypeError, "slice indices"),
    "in": (lambda xp, d: 3.0 in d["p"], TypeError, "element after element"),
    "bool of many": (lambda xp, d: bool(d["p"] > 0), ValueError, "ambiguous"),
    "hash": (lambda xp, d: {d["p"]: 1}, TypeError, "unhashable"),
    "stack of host arrays": (lambda xp, d: xp.stack([np.zeros(3)]), TypeError, "Unsupported"),
    "concatenate of floats": (lambda xp, d: xp.concatenate([1.0, 2.0]), TypeError,
                              "Only cupy arrays can be concatenated"),
    "sum of a host array": (lambda xp, d: xp.sum(np.zeros(3)), TypeError, "Unsupported"),
    "object dtype": (lambda xp, d: xp.asarray(["a"]), ValueError, "Unsupported dtype"),
    "float index": (lambda xp, d: d["p"][d["p"]], IndexError, "must be of integer or boolean"),
    "int16 add.at": (lambda xp, d: xp.add.at(xp.zeros(3, "i2"), xp.asarray([1]), 1), TypeError,
                     "cupy.add.at only supports int32, int64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_planted_bug_is_refused(name, xp, d):
    f, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        f(xp, d)


COUNTED = {
    "float in the loop": (lambda xp, d: [float((d["x"][t] ** 2).sum()) for t in range(6)],
                          {"sync": 6, "d2h": 6}),
    "if any()": (lambda xp, d: [1 for t in range(6) if (d["x"][t] > 9).any()], {"sync": 6}),
    "host copy in the loop": (
        lambda xp, d: [xp.asarray(np.zeros((4, 5), "f4")) + d["x"][t] for t in range(6)],
        {"h2d": 6, "sync": 0}),
    "mask read": (lambda xp, d: d["p"][d["p"] > 0], {"sync": 1}),
    "host index": (lambda xp, d: d["p"][np.arange(4), [1, 2, 3, 0]], {"h2d": 2, "sync": 0}),
    "item, tolist, print": (lambda xp, d: (d["y"][0].item(), d["y"].tolist(), str(d["y"])),
                            {"sync": 3, "d2h": 3}),
    "nonzero": (lambda xp, d: xp.nonzero(d["p"] > 0), {"sync": 1}),
}


@pytest.mark.parametrize("name", COUNTED)
def test_planted_traffic_is_counted(name, xp, d):
    f, expected = COUNTED[name]
    with counting() as c:
        f(xp, d)
    assert {k: c[k] for k in expected} == expected


def test_fresh_memory_is_poisoned(xp):
    assert np.isnan(xp.empty((2, 2), "f4").get()).all()
    assert np.isnan(xp.empty_like(xp.zeros(3)).get()).all()
    assert np.isnan(xp.ndarray((2,), "f8").get()).all()
    for dtype in ("i4", "i8"):
        with pytest.raises(SilentOnGPU):
            xp.zeros(1000)[xp.empty(3, dtype)]


def test_saving_is_no_bug(xp, d, tmp_path):
    np.savez(tmp_path / "w.npz", W=d["W"])
    with np.load(tmp_path / "w.npz") as f:
        assert (f["W"] == d["W"].get()).all()
    with xp.load(tmp_path / "w.npz") as f:
        assert isinstance(f["W"], xp.ndarray)


def test_legal_stores(xp):
    a = xp.zeros(5, "f4")
    i = xp.asarray([1, 1, 3])
    a[i] = 2.0  # one value: duplicates do not matter
    xp.add.at(a, i, 1.0)
    a[xp.asarray([0, 4])] += 5
    a[a > 4.5] = -1
    assert a.get().tolist() == [-1, 4, 0, 3, -1]
    with pytest.raises(SilentOnGPU):  # -1 and 4 name one place
        a[xp.asarray([-1, 4])] = xp.asarray([1.0, 2.0])
    a[1:3] = xp.asarray([7.0, 8.0])
    a[::2] *= 2
    assert a.get().tolist() == [-2, 7, 16, 3, -2]


# --- aliasing

VIEWS = {
    "slice": lambda xp, a: a[1:, ::2], "integer": lambda xp, a: a[0],
    "scalar": lambda xp, a: a[1, 2],
    "newaxis": lambda xp, a: a[:, None], "ellipsis": lambda xp, a: a[..., 1],
    "reshape": lambda xp, a: a.reshape(2, 6), "ravel": lambda xp, a: a.ravel(),
    "T": lambda xp, a: a.T, "mT": lambda xp, a: a.mT, "swapaxes": lambda xp, a: a.swapaxes(0, 1),
    "transpose": lambda xp, a: xp.transpose(a), "flip": lambda xp, a: xp.flip(a, 0),
    "squeeze": lambda xp, a: a[None].squeeze(0), "moveaxis": lambda xp, a: xp.moveaxis(a, 0, 1),
    "split": lambda xp, a: xp.split(a, 2, axis=1)[1], "view": lambda xp, a: a.view(),
    "expand_dims": lambda xp, a: xp.expand_dims(a, 0), "diagonal": lambda xp, a: xp.diagonal(a),
    "np.reshape": lambda xp, a: np.reshape(a, (4, 3)), "astype": lambda xp, a: a.astype(
        "f4", copy=False), "asarray": lambda xp, a: xp.asarray(a), "real": lambda xp, a: a.real,
    "ascontiguousarray": lambda xp, a: xp.ascontiguousarray(a),
}
COPIES = {
    "index array": lambda xp, a: a[xp.asarray([0, 1])], "0-d index": lambda xp, a: a[xp.asarray(1)],
    "mask": lambda xp, a: a[a == a], "copy": lambda xp, a: a.copy(),
    "flatten": lambda xp, a: a.flatten(), "T.ravel": lambda xp, a: a.T.ravel(),
    "T.reshape": lambda xp, a: a.T.reshape(-1), "astype": lambda xp, a: a.astype("f4"),
    "array": lambda xp, a: xp.array(a), "contiguous": lambda xp, a: xp.ascontiguousarray(a.T),
    "concatenate": lambda xp, a: xp.concatenate([a]), "take": lambda xp, a: xp.take(a, [0], 0),
}


@pytest.mark.parametrize("name", VIEWS)
def test_view_shares_memory_and_counts_nothing(name, xp):
    a = xp.asarray(np.arange(12, dtype="f4").reshape(3, 4))
    with counting() as c:
        v = VIEWS[name](xp, a)
    assert traffic(c) == {}
    assert v is a or (v.base is a and not v.flags.owndata)
    assert v.data.mem is a.data.mem and xp.may_share_memory(v, a)
    before = a.get().sum()
    if name != "diagonal":
        v += 1
        assert a.get().sum() == before + v.size


@pytest.mark.parametrize("name", COPIES)
def test_copy_shares_nothing(name, xp):
    a = xp.asarray(np.arange(12, dtype="f4").reshape(3, 4))
    with counting() as c:
        v = COPIES[name](xp, a)
    assert c.launch >= 1 and c.alloc >= 1
    assert v.base is None and v.data.mem is not a.data.mem and not xp.shares_memory(v, a)
    v[...] = -1
    assert (a.get() == np.arange(12).reshape(3, 4)).all()


def test_writes_go_through(xp):
    flat = xp.zeros(16, "f4")
    W, b = flat[:12].reshape(3, 4), flat[12:]
    W[1] = 1
    W.T[0] += 2
    xp.add(b, 3, out=b)
    xp.matmul(xp.ones((3, 2), "f4"), xp.ones((2, 4), "f4"), out=W[:, :])
    xp.multiply(W[0], 5, W[0])
    assert flat.get().tolist() == [10] * 4 + [2] * 8 + [3] * 4
    assert W.base is flat and W[0].T.base is flat
    assert b.data.ptr == flat.data.ptr + 48 and W.data.ptr % 4 == 0 and W.strides == (16, 4)
    again = xp.ndarray((4,), "f4", flat.data + 48)
    again.fill(9)
    assert b.get().tolist() == [9] * 4
    assert W.flags.c_contiguous and W.T.flags["F_CONTIGUOUS"] and not W.T.flags.c_contiguous


def test_overlap_through_ufuncs_is_right(xp):
    a = xp.arange(5.0)
    xp.add(a[1:], a[:-1], out=a[1:])
    assert a.get().tolist() == [0, 1, 3, 5, 7]
