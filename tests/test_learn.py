"""Chapter 04: modules, layers, the flat buffer, Adam, batches, lengths and fit."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings
from hypothesis import strategies as st

from rnntext.autograd import Tensor, gradcheck, is_recording, no_grad, primitive
from rnntext.backend import (
    DeviceError,
    asarray,
    fresh,
    is_device,
    ones,
    set_backend,
    tanh,
    to_device,
    to_host,
    using,
    whole_number,
)
from rnntext.learn import (
    SGD,
    Adam,
    AdamW,
    Batches,
    Dropout,
    Embedding,
    FlatBuffer,
    History,
    Lengths,
    Linear,
    Module,
    NonFiniteGradientError,
    ParametersChangedError,
    RMSProp,
    check_floats,
    constant,
    cosine_decay,
    cross_entropy,
    dropout,
    embedding,
    evaluate,
    fit,
    flatten,
    linear,
    linear_warmup,
    log_softmax,
    mean_squared_error,
    patch_to,
    predict,
    softmax,
    step_decay,
)

pytestmark = pytest.mark.usefixtures("fresh_library")


def normal(*shape, seed=0, dtype="f4"):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


class Net(Module):
    "Two layers, dropout between."
    def __init__(self, inputs=3, hidden=5, outputs=2, rate=0.0, **options):
        self.name, self.sizes = "net", [inputs, hidden]
        self.layers = [Linear(inputs, hidden, seed=1, **options),
                       Linear(hidden, outputs, seed=2, **options)]
        self.drop = Dropout(rate, seed=3)

    def forward(self, x):
        return self.layers[1](self.drop(tanh(self.layers[0](x))))


def mse(model, x, y):
    return mean_squared_error(model(x), y)


def regression(n=40, **options):
    x = normal(n, 3)
    y = np.tanh(x @ normal(3, 2, seed=1)) + 0.1 * normal(n, 2, seed=2)
    return Batches(x, y.astype("f4"), **{"batch_size": 8, "seed": 0} | options)


# --- modules

class Holder(Module):
    def __init__(self, **values):
        vars(self).update(values)


def test_names_of_parameters():
    a, b, c, d, e = (Linear(2, 3, seed=i) for i in range(5))
    t, u = Tensor(np.ones(2, "f4")), Tensor(np.ones(3, "f4"))
    model = Holder(first=a, many=[b, (c, "text", None)], by_name={"x": d, 3: [e]}, own=t,
                   pair=(u, 1), words=["W", "b"], number=3, array=np.ones(4))
    names = list(model.parameters())
    assert sorted(names) == sorted(
        [f"{k}.{n}" for k in ("first", "many.0", "many.1.0", "by_name.x", "by_name.3.0")
         for n in ("W", "b")] + ["own", "pair.0"])
    assert model.parameters()["many.1.0.W"] is c.W and model.parameters()["pair.0"] is u
    assert list(model.children()) == ["first", "many.0", "many.1.0", "by_name.x", "by_name.3.0"]
    assert list(model.modules()) == [model, a, b, c, d, e]
    assert Holder().parameters() == {} and Holder(l=[], d={}).children() == {}


def test_modules_within_modules():
    model = Holder(inner=Holder(inner=Holder(layers=[Linear(1, 1)])))
    assert list(model.parameters()) == ["inner.inner.layers.0.W", "inner.inner.layers.0.b"]


def test_tied_parameters_have_each_of_their_names():
    a = Linear(2, 2, seed=0)
    model = Holder(encoder=a, decoder=a, table=a.W)
    assert list(model.parameters()) == ["table", "encoder.W", "encoder.b", "decoder.W", "decoder.b"]
    model.train()
    assert len({id(p) for p in model.parameters().values()}) == 2


def test_training_and_evaluation_switch_the_whole_tree():
    model = Holder(a=Dropout(0.5), many=[Dropout(0.5), {"x": Dropout(0.5)}])
    modules = list(model.modules())
    assert all(m.training for m in modules) and len(modules) == 4
    assert model.eval() is model and not any(m.training for m in modules)
    assert model.train() is model and all(m.training for m in modules)
    model.train(False)
    assert not any(m.training for m in modules) and Module.training


def test_zero_grad():
    model = Net()
    mse(model, normal(4, 3), normal(4, 2)).backward()
    assert all(p.grad is not None for p in model.parameters().values())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters().values())


def test_states_go_round(backend):
    one, two = Net(), Net()
    for p in one.parameters().values():
        p.data += 1.0
    state = one.state_dict()
    assert all(isinstance(v, np.ndarray) for v in state.values())
    two.load_state_dict(state)
    x = asarray(normal(4, 3))
    assert (to_host(predict(two, x)) == to_host(predict(one, x))).all()
    state["layers.0.W"][...] = 9.0  # a copy: the model is not touched
    assert to_host(one.layers[0].W).max() < 9
    two.load_state_dict({k: v.astype("f8").tolist() for k, v in state.items()})
    assert two.layers[0].W.dtype == "float32" and (to_host(two.layers[0].W) == 9).all()
    two.load_state_dict(one.parameters())  # Tensors do, wherever they are
    assert (to_host(two.layers[0].W) == to_host(one.layers[0].W)).all()


def test_loading_is_in_place():
    model = Net()
    arrays = {k: p.data for k, p in model.parameters().items()}
    model.load_state_dict({k: 0 * v for k, v in model.state_dict().items()})
    assert all(p.data is arrays[k] and not p.data.any() for k, p in model.parameters().items())


def test_a_state_that_does_not_fit_is_refused_as_a_whole():
    model = Net()
    before = model.state_dict()
    wrong = {**before, "layers.1.W": np.zeros((2, 5)), "extra": np.ones(3),
             "layers.0.b": np.array(["a"] * 5)}
    del wrong["layers.1.b"]
    wrong["layers.0.W"] = wrong["layers.0.W"] + 1  # fits, but must not be loaded
    with pytest.raises(ValueError) as error:
        model.load_state_dict(wrong)
    said = str(error.value)
    for line in ("nothing was loaded", "missing: layers.1.b (2,)", "unknown: extra",
                 "layers.1.W: (2, 5) float64, expected (5, 2) float32",
                 "layers.0.b: (5,) <U1, expected (5,) float32"):
        assert line in said
    after = model.state_dict()
    assert all((after[k] == before[k]).all() for k in before)
    with pytest.raises(ValueError, match="missing: layers.0.W"):
        model.load_state_dict({})


def test_one_parameter_cannot_have_two_values(backend):
    layer = Linear(2, 3, seed=0)
    model = Holder(a=layer, b=layer, c=Linear(2, 3, seed=1))
    before, state = model.state_dict(), model.state_dict()
    state["b.W"] = state["b.W"] + 1
    state["c.W"] = state["c.W"] + 1
    with pytest.raises(ValueError, match="b.W and a.W are one parameter, but their values differ"):
        model.load_state_dict(state)
    assert all((v == before[k]).all() for k, v in model.state_dict().items())
    state["a.W"] = state["b.W"]
    model.load_state_dict(state)
    assert (to_host(layer.W) == state["a.W"]).all()


def test_to_casts_and_forgets_gradients():
    model = Net()
    mse(model, normal(4, 3), normal(4, 2)).backward()
    before = model.state_dict()
    assert model.to(dtype="float64") is model
    for k, p in model.parameters().items():
        assert p.dtype == "float64" and p.grad is None and (p.data == before[k]).all()
    with pytest.raises(TypeError, match="floating-point numbers, dtype cannot be int64"):
        model.to(dtype="int64")
    assert model(normal(4, 3, dtype="f8")).dtype == "float64"
    a = Linear(2, 2)
    tied = Holder(a=a, b=a).to(dtype="float64")
    assert tied.a.W is tied.b.W and tied.a.W.dtype == "float64"


def test_to_moves(double):
    with using("numpy"):
        model = Net()
        x = normal(4, 3)
        expected = predict(model, x)
    model.to("cupy")
    assert all(is_device(p.data) for p in model.parameters().values())
    with using("numpy"):  # the arrays decide
        got = predict(model, to_device_of(model, x))
        assert is_device(got)
        np.testing.assert_allclose(to_host(got), expected, rtol=1e-6)
        assert is_device(model([[1.0, 2.0, 3.0]]).data)
        with pytest.raises(DeviceError, match="on the CPU.*on the GPU"):
            model(x)
    model.to("numpy", "float64")
    assert isinstance(model.layers[0].W.data, np.ndarray) and model.layers[0].b.dtype == "float64"


def to_device_of(model, a):
    with using("cupy"):
        return to_device(a)


def test_patch_to():
    class Thing:
        pass

    @patch_to(Thing)
    def double_of(self, n: int) -> int:
        return 2 * n
    assert Thing().double_of(4) == 8 and double_of(None, 4) == 8


# --- layers

def test_linear_is_the_affine_map(backend):
    layer = Linear(3, 2, seed=4)
    W, b = to_host(layer.W), to_host(layer.b)
    layer.b.data += 0.5
    for shape in ((3,), (4, 3), (5, 4, 3), (0, 3), (2, 1, 2, 3)):
        x = normal(*shape)
        y = layer(asarray(x))
        assert isinstance(y, Tensor) and y.shape == (*shape[:-1], 2) and y.dtype == "float32"
        np.testing.assert_allclose(to_host(y), x @ W + 0.5, rtol=1e-5, atol=1e-6)
    assert not b.any() or backend == "numpy"
    limit = (6 / 5) ** 0.5
    big = to_host(Linear(300, 200, seed=0).W)
    assert abs(big).max() < (6 / 500) ** 0.5
    assert big.std() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert abs(W).max() <= limit and (to_host(Linear(3, 2, seed=4).W) == W).all()
    assert (to_host(Linear(3, 2).W) != to_host(Linear(3, 2).W)).any()  # None: another each time


def test_linear_gradients():
    for shape in ((4,), (3, 4), (2, 3, 4)):
        check = gradcheck(linear, normal(*shape), normal(4, 5), normal(5))
        assert check.worst < 1e-8 and list(check.errors) == ["x", "W", "b"]
    layer = Linear(4, 2, seed=0, dtype="float64")
    assert gradcheck(layer, normal(3, 4), parameters=layer.parameters()).worst < 1e-8


LINEAR_WRONG = [
    (normal(4, 2), ValueError, r"x must have shape \(A, 3\), got \(4, 2\)"),
    (normal(3, 4), ValueError, r"x must have shape \(A, 3\), got \(3, 4\)"),
    (np.array(1.0, "f4"), ValueError, r"x must have shape \(3,\), got \(\)"),
    (np.float32(1.0), (TypeError, ValueError), "x must "),
    (1.0, ValueError, r"x must have shape \(3,\), got \(\)"),
    (normal(4, 3, dtype="f8"), TypeError, r"x is float64, but the layer computes in float32: cast"),
    (np.ones((4, 3), int), TypeError, r"x must be floating point, got int64: .*'float32'"),
    (np.ones((4, 3), bool), TypeError, "x must be floating point, got bool"),
    (Tensor(normal(4, 3, dtype="f8")), TypeError, "x is float64"),
    ([Tensor(normal(3)), Tensor(normal(3))], TypeError, "x is a list of Tensors: .* stack"),
    ("abc", (TypeError, ValueError), "x must be an array of numbers, got a str"),
    ([[1.0], [1.0, 2.0]], (TypeError, ValueError), "array of numbers|inhomogeneous"),
    (None, (TypeError, ValueError), "x must "),
    ({"x": 1}, (TypeError, ValueError), "x must be an array of numbers, got a dict"),
    ([None, 1.0, 2.0], TypeError, "x must be an array of numbers, got a list: .* object"),
    (["1", "2", "3"], TypeError, "x must be an array of numbers, got a list: .* <U1"),
]


@pytest.mark.parametrize("x, kind, words", LINEAR_WRONG, ids=lambda v: str(v)[:20])
def test_what_linear_refuses(x, kind, words):
    with pytest.raises(kind, match=words):
        Linear(3, 2)(x)


def test_what_linear_takes():
    layer = Linear(3, 2)
    for x in ([1.0, 2.0, 3.0], [[1, 2, 3]], ((1, 2, 3),), range(3)):
        y = layer(x)
        assert isinstance(y, Tensor) and y.dtype == "float32"


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "3", None, np.float32(2)])
def test_sizes_are_whole_numbers_from_1(size):
    for make in (lambda: Linear(size, 2), lambda: Linear(2, size),
                 lambda: whole_number("epochs", size),
                 lambda: Batches(np.ones(3), batch_size=size)):
        with pytest.raises(ValueError, match="must be an integer of 1 or more, got"):
            make()
    assert whole_number("n", np.int32(4)) == 4 and type(whole_number("n", np.int32(4))) is int


def test_time_first_hint():
    like = Tensor(np.ones(1, "f4"))
    with pytest.raises(ValueError, match=r"state must have shape \(1, 4, 5\), got \(1, 3, 5\)"):
        check_floats(normal(1, 3, 5), like, "state", (1, 4, 5))


def test_dropout_keeps_the_mean_and_its_rate(backend):
    drop = Dropout(0.25, seed=5)
    x = ones((200, 100))
    y, z = to_host(drop(x)), to_host(drop(x))
    assert set(np.unique(y).tolist()) == {0.0, float(np.float32(4 / 3))} and y.dtype == "float32"
    assert abs((y == 0).mean() - 0.25) < 0.01 and abs(y.mean() - 1) < 0.02 and (y != z).any()
    again = Dropout(0.25, seed=5)
    assert (to_host(again(x)) == y).all() and (to_host(again(x)) == z).all() and again.calls == 2
    other = Dropout(0.25, seed=5, layer=1)
    assert (to_host(other(x)) != y).any()


def test_dropout_in_evaluation_mode_is_nothing():
    drop, x = Dropout(0.5, seed=0), normal(3, 4)
    assert drop.eval()(x) is x and drop.calls == 0
    assert Dropout(0.0)(x) is x
    t = Tensor(x)
    assert drop.train()(t) is not t and isinstance(drop(t), Tensor)
    assert isinstance(drop(x), np.ndarray)


def test_dropout_gradient():
    mask = np.array([True, False, True])
    assert gradcheck(lambda x: dropout(x, mask, 0.4), normal(2, 3)).worst < 1e-9
    t = Tensor(np.array([1.0, np.nan, 2.0]))  # what is dropped cannot spoil the rest
    y = dropout(t, mask, 0.5)
    y.sum().backward()
    assert y.data.tolist() == [2, 0, 4] and t.grad.tolist() == [2, 0, 2]


@pytest.mark.parametrize("rate", [1, 1.0, -0.1, 2, float("nan"), "0.5", None])
def test_rates_that_are_refused(rate):
    with pytest.raises(ValueError, match="dropout must be .*at least 0 and below 1"):
        Dropout(rate)


def test_mean_squared_error():
    a, b = normal(4, 3), normal(4, 3, seed=1)
    assert float(mean_squared_error(a, b)) == pytest.approx(((a - b) ** 2).mean(), rel=1e-6)
    assert gradcheck(mean_squared_error, a, b).worst < 1e-8
    with pytest.raises(ValueError, match=r"prediction has shape \(4, 3\), target has \(4,\)"):
        mean_squared_error(a, b[:, 0])
    with pytest.raises(TypeError, match="prediction is float32, target is float64: cast one"):
        mean_squared_error(Tensor(a), b.astype("f8"))
    for target in (np.ones((4, 3), int), b.tolist(), None):
        with pytest.raises(TypeError, match="target must be floating point, got "):
            mean_squared_error(Tensor(a), target)
    with pytest.raises(ValueError, match=r"prediction has shape \(0, 3\), .* not empty"):
        mean_squared_error(a[:0], b[:0])


def test_mean_squared_error_refuses_two_devices(double):
    with pytest.raises(DeviceError):
        mean_squared_error(Tensor(ones((2, 2))), np.ones((2, 2), "f4"))


# --- softmax and cross-entropy

def probabilities(z, axis=-1):
    "By the definition, with integers as large as they come."
    e = np.exp(np.asarray(z, "longdouble"))
    return (e / e.sum(axis, keepdims=True)).astype("f8")


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_and_its_logarithm(axis, backend):
    z = 10 * normal(4, 3, 5)
    p = probabilities(z, axis)
    got = to_host(softmax(asarray(z), axis))
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, p, rtol=2e-5)
    np.testing.assert_allclose(to_host(log_softmax(asarray(z), axis)), np.log(p), rtol=1e-4,
                               atol=1e-6)
    for function in (softmax, log_softmax):
        assert gradcheck(lambda v, f=function: f(v, axis), asarray(z / 10)).worst < 1e-8


@pytest.mark.filterwarnings("error")
def test_what_softmax_and_dropout_refuse():
    for f, what in ((softmax, "logits"), (log_softmax, "logits"), (Dropout(0.5), "x"),
                    (Dropout(0.5).eval(), "x")):
        for wrong in (np.arange(3), [1.0, 2.0], None, "ab"):
            with pytest.raises(TypeError, match=f"{what} must be floating point, got "):
                f(wrong)
    with pytest.raises(ValueError, match=r"logits must have shape \(..., V\), got a single number"):
        cross_entropy(np.array(1.0), 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_extreme_logits(dtype):
    "Logits of 10,000: the loss is their difference, and the gradient is made of 0 and 1."
    for row, k, loss, grad in (([1e4, 0, -1e4], 0, 0, [0, 0, 0]),
                               ([1e4, 0, -1e4], 1, 1e4, [1, -1, 0]),
                               ([1e4, 0, -1e4], 2, 2e4, [1, 0, -1]),
                               ([-1e4] * 4, 3, np.log(4), [0.25, 0.25, 0.25, -0.75])):
        z = Tensor(np.array([row], dtype))
        value = cross_entropy(z, [k])
        value.backward()
        assert float(value) == pytest.approx(loss, rel=1e-6)
        assert z.grad[0].tolist() == pytest.approx(grad)


def test_softmax_of_large_and_of_excluded_logits():
    z = np.array([[1e4, 0.0, -1e4], [-1e30, -1e30, -1e30], [0.0, -np.inf, 0.0]], "f4")
    assert softmax(z).tolist() == [[1, 0, 0], [np.float32(1 / 3)] * 3, [0.5, 0, 0.5]]
    assert log_softmax(z)[0].tolist() == [0, -1e4, -2e4]
    t = Tensor(z)
    cross_entropy(t, [0, 1, 2]).backward()
    assert np.isfinite(t.grad).all() and t.grad[2].tolist() == pytest.approx([1 / 6, 0, -1 / 6])


def nll(z, k, w=None):
    "One entry after another."
    w = np.ones(k.shape) if w is None else np.asarray(w, "f8")
    terms = [w[i] * -np.log(probabilities(z[i])[k[i]]) for i in np.ndindex(k.shape)]
    return sum(terms) / w.sum()


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(shape, weighted, backend):
    rng = np.random.default_rng(0)
    z, k = 3 * rng.standard_normal((*shape, 5)), rng.integers(0, 5, shape)
    w = rng.integers(0, 3, shape) + (np.arange(k.size) == 0).reshape(shape) if weighted else None
    at = [asarray(k)] + ([asarray(w)] if weighted else [])
    assert float(cross_entropy(asarray(z), *at)) == pytest.approx(nll(z, k, w), rel=1e-9)
    assert gradcheck(lambda v: cross_entropy(v, *at), asarray(z)).worst < 1e-7
    t = Tensor(asarray(z.astype("f4")))
    value = cross_entropy(t, *at)
    value.backward()
    assert value.dtype == t.grad.dtype == "float32" and value.shape == ()
    v = np.ones(shape) if w is None else w
    expected = (probabilities(z) - np.eye(5)[k]) * np.asarray(v / v.sum())[..., None]
    np.testing.assert_allclose(to_host(t.grad), expected, atol=1e-6)


def test_cross_entropy_of_lists_and_masks():
    z = normal(2, 3, 4)
    k = [[0, 3, 1], [2, 9, -1]]
    mask = np.array([[True, True, True], [True, False, False]])
    expected = nll(z, np.array([[0, 3, 1], [2, 0, 0]]), mask)
    for weights in (mask, mask.tolist(), mask.astype("f8"), mask.astype("u1")):
        assert float(cross_entropy(z, k, weights)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("error")
def test_what_has_no_weight_does_not_matter(backend):
    z, w = normal(3, 4), np.array([1.0, 0.0, 2.0], "f4")
    found = []
    for content, id_ in ((0.0, 1), (np.nan, 3), (np.inf, 77)):
        z[1] = content
        t = Tensor(asarray(z))
        value = cross_entropy(t, asarray(np.array([0, id_, 2])), asarray(w))
        value.backward()
        found.append((float(value), to_host(t.grad).tolist()))
    assert found[0] == found[1] == found[2] and found[0][1][1] == [0, 0, 0, 0]


@pytest.mark.parametrize("arguments, kind, words", [
    ((np.ones((2, 3), "f4"), [0, 3]), ValueError,
     r"targets must be integers in 0..2, got 3 at position \[1\]"),
    ((np.ones((2, 3), "f4"), [-1, 0]), ValueError, r"got -1 at position \[0\]"),
    ((np.ones((2, 3), "f4"), [0.0, 1.0]), TypeError, "targets must be integers in 0..2, got .*f"),
    ((np.ones((2, 3), "f4"), [True, False]), TypeError, "integers in 0..2, got .*bool"),
    ((np.ones((2, 3), "f4"), Tensor(np.ones(2))), TypeError, "targets must be integers"),
    ((np.ones((2, 3), "f4"), [0, 1, 2]), ValueError, r"targets must have \(2,\), got \(3,\)"),
    ((np.ones((2, 3), "f4"), [[0], [1]]), ValueError, r"must have \(2,\), got \(2, 1\)"),
    ((np.ones((2, 3), "f4"), [0, 1], [1, 2, 3]), ValueError, r"weights must have \(2,\)"),
    ((np.ones((2, 3), "f4"), [0, 1], [0, 0]), ValueError, "at least one above 0"),
    ((np.ones((2, 3), "f4"), [0, 1], [2, -1]), ValueError, "0 or above"),
    ((np.ones((2, 3), "f4"), [0, 1], [1, np.nan]), ValueError, "0 or above"),
    ((np.ones((2, 3), "f4"), [0, 1], [1, np.inf]), ValueError, "weights must be finite, 0 or"),
    ((np.ones((0, 3), "f4"), [], []), ValueError, "at least one above 0"),
    ((np.ones((0, 3), "f4"), []), ValueError, r"at least one entry, got logits of \(0, 3\)"),
    ((np.ones((2, 3), "i4"), [0, 1]), TypeError, "logits must be floating point, got .*int32"),
    (([[0.1, 0.2]], [0]), TypeError, "logits must be floating point, got list"),
], ids=lambda v: str(v)[:20])
def test_what_cross_entropy_refuses(arguments, kind, words):
    with pytest.raises(kind, match=words):
        cross_entropy(*arguments)


def test_cross_entropy_and_torch():
    torch = pytest.importorskip("torch")
    z, k, w = normal(6, 5), np.arange(6) % 5, np.ones(6)
    theirs = torch.tensor(z, requires_grad=True)
    other = torch.nn.functional.cross_entropy(theirs, torch.tensor(k))
    other.backward()
    t = Tensor(z)
    cross_entropy(t, k, w).backward()
    assert float(cross_entropy(z, k)) == pytest.approx(other.item(), rel=1e-6)
    np.testing.assert_allclose(t.grad, theirs.grad.numpy(), atol=1e-7)


# --- embeddings

def test_embedding_is_a_product_with_one_hot_vectors(backend):
    layer, ids = Embedding(7, 3, seed=0, dtype="float64"), [[2, 0, 2], [6, 2, 1]]
    W = to_host(layer.W)
    one_hot = np.eye(7)[np.array(ids)]
    dy = normal(2, 3, 3, dtype="f8")
    for k in (ids, asarray(np.array(ids)), asarray(np.array(ids, "u1"))):
        y = layer(k)
        assert isinstance(y, Tensor) and (to_host(y) == one_hot @ W).all()
        layer.zero_grad()
        y.backward(asarray(dy))
        expected = np.einsum("abv,abd->vd", one_hot, dy)
        np.testing.assert_allclose(to_host(layer.W.grad), expected, rtol=1e-12)
    assert gradcheck(lambda W: embedding(W, asarray(np.array(ids))), layer.W.data).worst < 1e-9
    assert layer([]).shape == (0, 3) and layer(3).shape == (3,)
    assert (to_host(Embedding(7, 3, seed=0).W) == W.astype("f4")).all()
    assert Embedding(400, 50, seed=1).W.dtype == "float32"
    assert to_host(Embedding(400, 50, seed=1).W).std() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("ids, kind, words", [
    ([0, 4], ValueError, r"ids must be integers in 0..3, got 4 at position \[1\]"),
    (np.array([[0, 1], [-1, 2]]), ValueError, r"got -1 at position \[1, 0\]"),
    (4, ValueError, "got 4 at position"), ([1.0], TypeError, "must be integers in 0..3, got"),
    (["a"], TypeError, "must be integers"), ([True], TypeError, "must be integers"),
    (Tensor(np.ones(2)), TypeError, "stay plain arrays, got a Tensor"),
    (None, TypeError, "must be integers"), ([[1], [1, 2]], (TypeError, ValueError), "ids"),
], ids=lambda v: str(v)[:20])
def test_what_embedding_refuses(ids, kind, words):
    with pytest.raises(kind, match=words):
        Embedding(4, 2)(ids)


def test_ids_and_weights_of_two_devices(double):
    layer, host = Embedding(4, 2), np.array([0, 1])
    with pytest.raises(DeviceError):
        layer(host)
    with pytest.raises(DeviceError):
        cross_entropy(layer.W.data[:2], host)
    with pytest.raises(DeviceError):
        cross_entropy(layer.W.data[:2], asarray([0, 1]), np.ones(2, "f4"))


class Words(Module):
    "The next id from two ids before."
    def __init__(self, V=6, D=4):
        self.table, self.out = Embedding(V, D, seed=1), Linear(2 * D, V, seed=2)

    def forward(self, ids):
        return self.out(self.table(ids).reshape(len(ids), -1))


def next_id(model, ids, target, weights=None):
    return cross_entropy(model(ids), target, weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_over_ids_neither_copies_nor_waits(weighted, double):
    model = Words()
    adam = Adam(model, 0.01, clip=1.0)
    arrays = [asarray(np.array([[0, 1], [1, 1], [5, 0]])), asarray(np.array([2, 0, 5]))]
    arrays += [asarray(np.array([1.0, 0, 2], "f4"))] * weighted
    for _ in range(2):
        with double.counting() as c:
            adam.zero_grad()
            next_id(model, *arrays).backward()
            adam.step()
        assert c.sync == c.h2d == c.d2h == 0, c


def test_ids_are_checked_before_they_move(double):
    ids, targets = np.array([[0, 1], [1, 6]]), np.array([1, 0])
    Batches(ids, targets, batch_size=2, ids={1: 6})
    with pytest.raises(ValueError, match=r"array 0 must be integers in 0..5, got 6 at .*\[1, 1\]"):
        Batches(ids, targets, batch_size=2, ids={0: 6, 1: 6})
    with pytest.raises(ValueError, match="ids are positions of arrays, 0 to 1, got .2,"):
        Batches(ids, targets, batch_size=2, ids={2: 6})
    with pytest.raises(TypeError, match="array 0 must be integers"):
        Batches(np.ones(3), batch_size=2, ids={0: 6})


def test_a_network_over_ids_learns_its_rule(backend):
    ids = np.random.default_rng(0).integers(0, 6, (120, 2))
    data = Batches(ids, 5 - ids[:, 1], batch_size=20, seed=0, ids={0: 6, 1: 6})
    model = Words(D=16)
    history = fit(model, data, next_id, epochs=40, learning_rate=0.02, progress=False)
    assert history.loss[0] > 1.5 and history.loss[-1] < 0.1


# --- the flat buffer

def test_flat_views_and_alignment(backend):
    model = Net(3, 5, 2)
    before = model.state_dict()
    flat = flatten(model)
    names = ["layers.0.W", "layers.0.b", "layers.1.W", "layers.1.b"]
    assert [n for n, _ in flat.entries] == names
    assert flat.starts == [0, 16, 32, 48, 64] and flat.data.shape == flat.grad.shape == (64,)
    for (name, p), start in zip(flat.entries, flat.starts, strict=False):
        assert (to_host(p) == before[name]).all()
        flat.data[start] = 7.0
        assert float(p.data.reshape(-1)[0]) == 7 and p.grad.shape == p.shape
        assert not to_host(p.grad).any()
        if backend == "numpy":
            for a in (p.data, p.grad):
                assert a.ctypes.data % 64 == 0
            assert np.shares_memory(p.data, flat.data) and np.shares_memory(p.grad, flat.grad)
    assert flat.in_use()
    mse(model, asarray(normal(4, 3)), asarray(normal(4, 2))).backward()
    first = to_host(flat.grad).copy()
    assert first.any() and flat.in_use()
    mse(model, asarray(normal(4, 3)), asarray(normal(4, 2))).backward()
    np.testing.assert_allclose(to_host(flat.grad), 2 * first, rtol=1e-6)  # in place, added up
    assert [flat.name_at(i) for i in (0, 15, 16, 31, 32, 48, 63)] == [
        names[i] for i in (0, 0, 1, 1, 2, 3, 3)]


@pytest.mark.parametrize("dtype, step", [("float32", 16), ("float64", 8)])
def test_alignment_of_both_types(dtype, step):
    for _ in range(5):
        flat = flatten(Net(7, 11, 1, dtype=dtype))
        assert all(s % step == 0 for s in flat.starts) and flat.data.dtype == dtype
        assert all(p.data.ctypes.data % 64 == 0 for _, p in flat.entries)


def test_tied_parameters_are_one_entry():
    a = Linear(4, 4, seed=0)
    model = Holder(first=a, second=a, table=a.W)
    flat = flatten(model)
    assert [n for n, _ in flat.entries] == ["table", "first.b"] and flat.starts[-1] == 32
    assert model.first.W.data is model.second.W.data
    adam = Adam(model, 0.1)
    (model.first(normal(2, 4)).sum() + model.second(normal(2, 4)).sum()).backward()
    adam.step()
    assert model.table is model.second.W


def test_gradients_that_were_there_are_kept():
    layer = Linear(2, 2)
    layer.W.grad = normal(2, 2)
    expected = layer.W.grad.copy()
    flat = flatten(layer)
    assert (layer.W.grad == expected).all() and (flat.grad[:4] == expected.ravel()).all()


def test_gather_takes_in_foreign_gradients():
    layer = Linear(2, 2)
    flat = flatten(layer)
    flat.grad[...] = 5.0
    layer.W.grad, layer.b.grad = None, normal(2)
    flat.gather()
    assert not layer.W.grad.any() and (flat.grad[16:18] == normal(2)).all()
    assert np.shares_memory(layer.b.grad, flat.grad)


def test_what_cannot_be_laid_out():
    with pytest.raises(ValueError, match="no parameters to optimise"):
        flatten(Holder(x=1))
    model = Holder(a=Linear(2, 2), b=Linear(2, 2, dtype="float64"))
    with pytest.raises(TypeError, match=r"a.W is float32, but b.W, b.b is not; model.to\(dtype="):
        flatten(model)


def test_two_devices_in_one_model(double):
    model = Holder(a=Linear(2, 2))
    with using("numpy"):
        model.b = Linear(2, 2)
    with pytest.raises(DeviceError):
        FlatBuffer(model.parameters())


# --- Adam

def reference(theta, gradients, rate, b1=0.9, b2=0.999, epsilon=1e-8, clip=None):
    "Algorithm 1 of the paper, one number list after another, in float64."
    theta = theta.astype(np.float64).copy()
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, 1):
        g = g.astype(np.float64)
        length = np.sqrt((g**2).sum())
        if clip is not None and length > clip:
            g = g / length * clip
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        theta = theta - rate * m_hat / (np.sqrt(v_hat) + epsilon)
    return theta


class Points(Module):
    "Parameters of given values."
    def __init__(self, *arrays):
        self.points = [Tensor(to_device(a.copy())) for a in arrays]

    def feed(self, flat):
        at = 0
        for p in self.points:
            p.grad = to_device(flat[at:at + p.size].reshape(p.shape).astype(p.dtype))
            at += p.size

    def all(self):
        return np.concatenate([to_host(p).ravel() for p in self.points])


@pytest.mark.parametrize("clip", [None, 1.0, 100.0])
@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.9), "epsilon": 1e-3},
                                     {"betas": (0.0, 0.0)}], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [("f8", 1e-12), ("f4", 2e-5)])
def test_adam_takes_the_steps_of_the_paper(clip, options, dtype, tolerance, backend):
    arrays = [normal(3, 4, dtype=dtype), normal(5, dtype=dtype), normal(1, 1, dtype=dtype)]
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(18) * 10.0 ** rng.integers(-3, 2) for _ in range(100)]
    model = Points(*arrays)
    adam = Adam(model, 0.01, clip=clip, **options)
    for g in gradients:
        model.feed(g)
        norm = adam.step()
        assert float(norm) == pytest.approx(np.sqrt((g**2).sum()), rel=1e-5)
    betas = options.get("betas", (0.9, 0.999))
    expected = reference(np.concatenate([a.ravel() for a in arrays]), gradients, 0.01, *betas,
                         epsilon=options.get("epsilon", 1e-8), clip=clip)
    np.testing.assert_allclose(model.all(), expected, rtol=0, atol=tolerance)
    adam.check()
    assert adam.steps == 100


@pytest.mark.parametrize("clip", [None, 0.5])
def test_adam_and_torch(clip):
    torch = pytest.importorskip("torch")
    arrays, rng = [normal(3, 4, dtype="f8"), normal(5, dtype="f8")], np.random.default_rng(1)
    model = Points(*arrays)
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    adam, other = Adam(model, 0.01, clip=clip), torch.optim.Adam(theirs, lr=0.01)
    for _ in range(100):
        g = rng.standard_normal(17)
        model.feed(g)
        adam.step()
        theirs[0].grad = torch.tensor(g[:12].reshape(3, 4))
        theirs[1].grad = torch.tensor(g[12:])
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs, clip)
        other.step()
    expected = np.concatenate([p.detach().numpy().ravel() for p in theirs])
    np.testing.assert_allclose(model.all(), expected, rtol=0, atol=1e-5 if clip else 1e-12)


def test_adam_without_gradients_stays_where_it_is():
    "Zero gradients: no division by the norm, no warning."
    model = Points(normal(3))
    adam = Adam(model, 0.1, clip=1.0)
    for _ in range(3):
        adam.zero_grad()
        assert float(adam.step()) == 0
    assert (model.all() == normal(3)).all()
    adam.check()


# --- the other optimisers

def walked(kind, theta, gradients, rate, o):
    "One number after another, in float64, as the equations say."
    theta = [float(a) for a in theta]
    u, m, v = ([0.0] * len(theta) for _ in range(3))
    for t, g in enumerate(gradients, 1):
        g = [float(a) for a in g]
        if "clip" in o:
            length = sum(a * a for a in g) ** 0.5
            g = [a * min(1.0, o["clip"] / length) for a in g]
        if "clip_value" in o:
            g = [max(-o["clip_value"], min(o["clip_value"], a)) for a in g]
        eta = rate * o["schedule"](t) if "schedule" in o else rate
        for i, a in enumerate(g):
            if kind is SGD:
                u[i] = o.get("momentum", 0.0) * u[i] + a
                theta[i] -= eta * (a + o["momentum"] * u[i] if o.get("nesterov") else u[i])
            elif kind is RMSProp:
                b = o.get("beta", 0.9)
                v[i] = b * v[i] + (1 - b) * a**2
                theta[i] -= eta * a / (v[i] ** 0.5 + o.get("epsilon", 1e-8))
            else:
                if kind is AdamW:
                    theta[i] -= eta * o.get("weight_decay", 0.01) * theta[i]
                b1, b2 = o.get("betas", (0.9, 0.999))
                m[i], v[i] = b1 * m[i] + (1 - b1) * a, b2 * v[i] + (1 - b2) * a**2
                hat = m[i] / (1 - b1**t), v[i] / (1 - b2**t)
                theta[i] -= eta * hat[0] / (hat[1] ** 0.5 + o.get("epsilon", 1e-8))
    return theta


OPTIMISERS = [
    (SGD, {}), (SGD, {"momentum": 0.9}), (SGD, {"momentum": 0.5, "nesterov": True}),
    (RMSProp, {}), (RMSProp, {"beta": 0.99, "epsilon": 1e-3}),
    (Adam, {}), (AdamW, {}), (AdamW, {"weight_decay": 0.5, "betas": (0.8, 0.99)}),
]
HOW = [{}, {"clip": 0.7}, {"clip_value": 0.5}, {"schedule": linear_warmup(5, step_decay(10, 0.5))}]
named = pytest.mark.parametrize("kind, options", OPTIMISERS,
                                ids=lambda v: getattr(v, "__name__", None) or str(v))


@named
@pytest.mark.parametrize("how", HOW, ids=lambda v: str(list(v)))
@pytest.mark.parametrize("dtype, tolerance", [("f8", 1e-12), ("f4", 3e-5)])
def test_optimisers_take_the_steps_of_their_equations(kind, options, how, dtype, tolerance,
                                                      backend):
    arrays = [normal(3, 2, dtype=dtype), normal(4, dtype=dtype)]
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(10) * 10.0 ** rng.integers(-2, 1) for _ in range(40)]
    model = Points(*arrays)
    optimiser = kind(model, 0.01, **options, **how)
    for g in gradients:
        model.feed(g)
        norm = optimiser.step()
        assert float(norm) == pytest.approx(np.sqrt((g**2).sum()), rel=1e-5)
    optimiser.check()
    start = np.concatenate([a.ravel() for a in arrays])
    expected = walked(kind, start, gradients, 0.01, options | how)
    np.testing.assert_allclose(model.all(), expected, rtol=0, atol=tolerance)
    assert model.points[0].dtype == dtype and optimiser.steps == 40


@named
def test_optimisers_and_torch(kind, options):
    torch = pytest.importorskip("torch")
    arrays, rng = [normal(3, 4, dtype="f8"), normal(5, dtype="f8")], np.random.default_rng(1)
    model = Points(*arrays)
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    given = {{"beta": "alpha", "epsilon": "eps"}.get(k, k): v for k, v in options.items()}
    given |= {"alpha": 0.9} if kind is RMSProp and "beta" not in options else {}
    other = {SGD: torch.optim.SGD, RMSProp: torch.optim.RMSprop, Adam: torch.optim.Adam,
             AdamW: torch.optim.AdamW}[kind](theirs, lr=0.01, **given)
    optimiser = kind(model, 0.01, **options)
    for _ in range(50):
        g = rng.standard_normal(17)
        model.feed(g)
        optimiser.step()
        theirs[0].grad, theirs[1].grad = torch.tensor(g[:12].reshape(3, 4)), torch.tensor(g[12:])
        other.step()
    expected = np.concatenate([p.detach().numpy().ravel() for p in theirs])
    np.testing.assert_allclose(model.all(), expected, rtol=0, atol=1e-12)


@named
def test_every_optimiser_learns_and_neither_copies_nor_waits(kind, options, double):
    model = Net()
    optimiser = kind(model, 0.01, clip=1.0, schedule=cosine_decay(100, 0.1), **options)
    x, y = asarray(normal(8, 3)), asarray(normal(8, 2))
    losses, launches = [], set()
    for _ in range(30):
        with double.counting() as c:
            optimiser.zero_grad()
            value = mse(model, x, y)
            value.backward()
            optimiser.step()
        assert c.sync == c.h2d == c.d2h == 0, c
        losses.append(float(value))
        launches.add(c.launch)
    assert losses[-1] < losses[0] and len(launches) == 1
    optimiser.check()


@named
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("how", [{}, {"clip": 1.0}, {"clip_value": 1.0}], ids=str)
def test_every_optimiser_freezes_at_a_bad_gradient(kind, options, how, backend):
    for value in (np.nan, np.inf, -np.inf):
        model = Points(normal(3), normal(4))
        optimiser = kind(model, 0.1, **options, **how)
        model.feed(np.ones(7))
        optimiser.step()
        good = model.all(), [to_host(getattr(optimiser, s)).copy() for s in optimiser.slots]
        model.feed(np.array([0, 0, 0, 0, value, 0, 0]))
        optimiser.step()
        model.feed(np.ones(7))
        optimiser.step()
        assert (model.all() == good[0]).all()
        for slot, kept in zip(optimiser.slots, good[1], strict=True):
            assert (to_host(getattr(optimiser, slot)) == kept).all()
        with pytest.raises(NonFiniteGradientError, match="step 2 .* in parameter points.1"):
            optimiser.check()


@named
def test_casting_keeps_what_an_optimiser_knows(kind, options):
    arrays, rng = [normal(3, 4), normal(5)], np.random.default_rng(0)
    gradients = [rng.standard_normal(17) for _ in range(20)]
    model = Points(*arrays)
    optimiser = kind(model, 0.01, **options)
    for i, g in enumerate(gradients):
        if i == 10:
            model.to(dtype="float64")
        model.feed(g)
        optimiser.step()
    start = np.concatenate([a.ravel() for a in arrays])
    np.testing.assert_allclose(model.all(), walked(kind, start, gradients, 0.01, options),
                               atol=2e-5)


@named
def test_numbers_of_numpy_do_not_widen_a_step(kind, options):
    model = Points(normal(4))
    optimiser = kind(model, np.float64(0.1), clip=np.float64(1), schedule=lambda t: np.float64(0.5),
                     **options)
    model.feed(np.ones(4))
    assert optimiser.step().dtype == "float32" and model.points[0].dtype == "float32"


@pytest.mark.parametrize("make, words", [
    (lambda p: SGD(p, momentum=1.0), "momentum"), (lambda p: SGD(p, momentum=-0.1), "momentum"),
    (lambda p: SGD(p, nesterov=True), "nesterov needs a momentum"),
    (lambda p: SGD(p, 0.0), "learning_rate"), (lambda p: SGD(p, clip_value=0.0), "clip_value"),
    (lambda p: SGD(p, clip=1.0, clip_value=1.0), "by its norm .clip. or by value, not by both"),
    (lambda p: RMSProp(p, beta=1.0), "beta"), (lambda p: RMSProp(p, epsilon=0.0), "epsilon"),
    (lambda p: AdamW(p, weight_decay=-0.1), "weight_decay"),
    (lambda p: AdamW(p, weight_decay=float("nan")), "weight_decay"),
    (lambda p: linear_warmup(0), "steps"), (lambda p: cosine_decay(2.5), "steps"),
    (lambda p: step_decay(-1), "every"), (lambda p: SGD(p, float("inf")), "learning_rate"),
    (lambda p: SGD(p, "0.1"), "learning_rate"), (lambda p: SGD(p, True), "learning_rate"),
    (lambda p: SGD(p, np.ones(2)), "learning_rate"), (lambda p: SGD(p, momentum="a"), "momentum"),
    (lambda p: SGD(p, clip=float("inf")), "clip"), (lambda p: SGD(p, clip="1"), "clip"),
    (lambda p: RMSProp(p, beta="0.9"), "beta"), (lambda p: Adam(p, betas=0.9), "two numbers"),
    (lambda p: Adam(p, betas=(0.9, 0.9, 0.9)), "two numbers"),
    (lambda p: Adam(p, betas="ab"), "two numbers"),
    (lambda p: Adam(p, epsilon=float("inf")), "epsilon"),
    (lambda p: cosine_decay(5, -1.0), "lowest"), (lambda p: cosine_decay(5, "a"), "lowest"),
    (lambda p: step_decay(5, -0.5), "factor"), (lambda p: step_decay(5, np.nan), "factor")])
def test_what_optimisers_and_schedules_refuse(make, words):
    with pytest.raises(ValueError, match=words):
        make(Points(normal(2)))


def test_an_optimiser_wants_a_model_and_a_schedule_a_function():
    model = Points(normal(2))
    for wrong in (3, model.parameters(), Points, None):
        with pytest.raises(TypeError, match="a Module is needed, a model with its parameters, got"):
            Adam(wrong)
    with pytest.raises(TypeError, match="parameters are Tensors, a is not"):
        FlatBuffer({"a": np.ones(3)})
    for make in (lambda: Adam(model, schedule=0.5), lambda: linear_warmup(3, 0.5)):
        with pytest.raises(TypeError, match="a function of the step, got float 0.5"):
            make()


def test_an_endless_limit_would_turn_parameters_into_nan():
    "inf / inf is no number: a limit that is not finite is refused, and None is the way to say it."
    model = Points(normal(2))
    with pytest.raises(ValueError, match="clip must be a number above 0 and finite, got inf"):
        SGD(model, clip=float("inf"))


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf"), None, "1"])
def test_factors_that_are_refused(factor):
    model = Points(normal(2))
    optimiser = SGD(model, schedule=lambda t: factor if t == 2 else 1.0)
    optimiser.step()
    with pytest.raises(ValueError, match="factor of a schedule, at step 2, must be .* got"):
        optimiser.step()
    assert optimiser.steps == 1


def test_schedules():
    assert [constant(t) for t in (1, 100)] == [1, 1]
    warm = linear_warmup(4, step_decay(2, 0.5))
    assert [warm(t) for t in range(1, 10)] == [0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5, 0.25]
    assert [linear_warmup(2)(t) for t in (1, 2, 3, 9)] == [0.5, 1, 1, 1]
    cosine = cosine_decay(4, 0.2)
    assert [cosine(t) for t in (1, 3, 5, 6)] == pytest.approx([1, 0.6, 0.2, 0.2])
    assert cosine(2) == pytest.approx(0.2 + 0.8 * (1 + 0.5**0.5) / 2)
    optimiser = SGD(Points(normal(2)), 0.5, schedule=warm)
    assert [optimiser.rate(t) for t in (1, 4)] == [0.125, 0.5]


@pytest.mark.parametrize("change, words", [
    (lambda m: m.layers.append(Linear(2, 1)), "new: layers.2.W, layers.2.b; gone: none"),
    (lambda m: m.layers.pop(), "new: none; gone: layers.1.W, layers.1.b"),
    (lambda m: setattr(m.layers[0], "W", Tensor(m.layers[0].W.data)),
     "new: layers.0.W; gone: layers.0.W")])
def test_parameters_that_change_behind_an_optimiser(change, words):
    model = Net()
    adam = Adam(model)
    adam.zero_grad()
    change(model)
    with pytest.raises(ParametersChangedError, match="after this Adam was made; " + words):
        adam.step()
    model = Net()
    adam = Adam(model)
    model.to(dtype="float64")
    model.layers.append(Linear(2, 1, dtype="float64"))
    for act in (adam.zero_grad, adam.step):
        with pytest.raises(ParametersChangedError, match="Make a new optimiser"):
            act()


@pytest.mark.parametrize("options, words", [
    ({"learning_rate": 0}, "learning_rate"), ({"learning_rate": -1.0}, "learning_rate"),
    ({"learning_rate": float("nan")}, "learning_rate"), ({"clip": 0}, "clip"),
    ({"clip": -1.0}, "clip"), ({"clip": float("nan")}, "clip"), ({"epsilon": 0}, "epsilon"),
    ({"epsilon": -1e-8}, "epsilon"), ({"betas": (1.0, 0.999)}, "betas"),
    ({"betas": (0.9, 1.5)}, "betas"), ({"betas": (-0.1, 0.9)}, "betas")], ids=str)
def test_what_adam_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        Adam(Linear(1, 1), **options)


BAD = [np.nan, np.inf, -np.inf, 1e30]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("value", BAD)
def test_a_bad_gradient_freezes_the_parameters_and_is_named(value, clip, backend):
    model = Points(normal(3), normal(20), normal(2))
    adam = Adam(model, 0.1, clip=clip)
    model.feed(np.ones(25))
    adam.step()
    adam.check()
    good, moments = model.all(), [to_host(adam.m).copy(), to_host(adam.v).copy()]
    bad = np.ones(25)
    bad[5] = value
    model.feed(bad)
    adam.step()
    model.feed(np.ones(25))
    adam.step()  # good again, but frozen
    model.feed(np.full(25, np.nan))
    adam.step()  # bad again: the first one stays noted
    assert (model.all() == good).all()
    assert all((to_host(a) == b).all() for a, b in zip((adam.m, adam.v), moments, strict=True))
    where_ = "in the norm, which overflowed" if value == 1e30 else "in parameter points.1"
    for _ in range(2):
        with pytest.raises(NonFiniteGradientError, match=f"step 2 was not finite, first {where_}"):
            adam.check()


def test_casting_in_the_middle_keeps_the_moments():
    arrays = [normal(3, 4), normal(5)]
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(17) for _ in range(20)]
    model = Points(*arrays)
    adam = Adam(model, 0.01)
    for i, g in enumerate(gradients):
        if i == 10:
            model.to(dtype="float64")
        model.feed(g)
        adam.step()
    assert model.points[0].dtype == adam.m.dtype == adam.flat.data.dtype == "float64"
    assert model.points[0].data is adam.flat.views[0][0] and adam.steps == 20
    expected = reference(np.concatenate([a.ravel() for a in arrays]), gradients, 0.01)
    np.testing.assert_allclose(model.all(), expected, rtol=0, atol=1e-5)


def test_moving_in_the_middle_keeps_the_moments_and_what_was_noted(double):
    model = Points(normal(3))
    adam = Adam(model, 0.1)
    model.feed(np.ones(3))
    adam.step()
    m = to_host(adam.m)
    model.feed(np.full(3, np.nan))
    adam.step()
    with using("numpy"):
        model.to("numpy")
        adam.zero_grad()
        assert isinstance(adam.m, np.ndarray) and (adam.m == m).all()
        with pytest.raises(NonFiniteGradientError, match="of step 2 .* parameter points.0"):
            adam.check()


def test_loading_a_state_keeps_the_buffer():
    model = Net()
    adam = Adam(model, 0.1)
    flat = adam.flat
    model.load_state_dict({k: np.zeros_like(v) for k, v in model.state_dict().items()})
    assert not flat.data.any() and flat.in_use()
    mse(model, normal(4, 3), normal(4, 2)).backward()
    adam.step()
    assert adam.flat is flat and flat.data.any()


def test_a_step_on_the_double_neither_copies_nor_waits(double):
    model = Net()
    adam = Adam(model, 0.01, clip=1.0)
    x, y = asarray(normal(8, 3)), asarray(normal(8, 2))
    for _ in range(3):
        with double.counting() as c:
            adam.zero_grad()
            mse(model, x, y).backward()
            adam.step()
        assert c.sync == c.h2d == c.d2h == 0, c
    with double.counting() as c:
        adam.zero_grad()
    assert c.launch == 1
    with double.counting() as c:
        adam.step()
    assert c.launch < 50
    small = c.launch
    deep = Points(*[normal(4) for _ in range(30)])
    adam = Adam(deep, 0.01, clip=1.0)
    adam.zero_grad()
    with double.counting() as c:
        adam.step()
    assert c.launch == small  # as many for 30 parameters as for 4


# --- batches

def test_batches_of_a_ragged_end():
    batches = Batches(np.arange(10.0), np.arange(10), batch_size=4, shuffle=False)
    found = list(batches)
    assert len(batches) == 3 and [len(b[0]) for b in found] == [4, 4, 2]
    assert np.concatenate([b[0] for b in found]).tolist() == list(range(10))
    assert found[0][0].dtype == "float64" and found[0][1].dtype == "int64"
    assert len(list(Batches(np.ones(3), batch_size=100))) == 1


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.booleans(), st.integers(0, 5), st.integers(0, 2))
def test_every_example_is_used_once_an_epoch(n, size, shuffle, seed, axis):
    marks = np.moveaxis(np.broadcast_to(np.arange(n), (2, 3, n)), 2, axis)
    batches = Batches(marks, np.arange(n), batch_size=size, axes=(axis, 0), shuffle=shuffle,
                      seed=seed)
    assert len(list(batches)) == len(batches) == -(-n // size)
    for _ in range(2):
        seen = []
        for a, b in batches:
            assert a.shape[axis] == len(b) <= size
            assert (np.moveaxis(a, axis, 2) == b).all()  # the arrays stay side by side
            seen += b.tolist()
        assert sorted(seen) == list(range(n)) and (shuffle or seen == sorted(seen))


def test_shuffles_repeat_by_their_seed():
    order = lambda batches: [b[0].tolist() for b in batches]  # noqa: E731
    a, b, c = (Batches(np.arange(50), batch_size=7, seed=s) for s in (3, 3, 4))
    first = order(a)
    assert first == order(b) != order(c) and order(a) == order(b) != first
    fresh(seed=9)
    none = [order(Batches(np.arange(50), batch_size=50)) for _ in range(2)]
    fresh(seed=9)
    assert none[0] != none[1] and none == [order(Batches(np.arange(50), batch_size=50))
                                           for _ in range(2)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_position(value):
    hole = np.ones((4, 3, 2))
    hole[2, 0, 1] = hole[3, 1, 1] = value
    with pytest.raises(ValueError, match=rf"array 1 holds {value} at \[2, 0, 1\]: fill or drop it"):
        Batches(np.ones(4), hole, batch_size=2)


@pytest.mark.parametrize("make, words", [
    (lambda: Batches(batch_size=2), "0 arrays"),
    (lambda: Batches(np.ones((4, 2)), np.ones((3, 2)), batch_size=2), r"\[4, 3\]"),
    (lambda: Batches(np.ones((4, 2)), np.ones((4, 3)), batch_size=2, axes=(0, 1)), r"\[4, 3\]"),
    (lambda: Batches(np.ones((4, 2)), batch_size=2, axes=(0, 1)), "1 arrays, but 2 axes"),
    (lambda: Batches(np.ones((0, 2)), batch_size=2), "at least one"),
    (lambda: Batches(np.ones(3), np.ones(3, int), batch_size=2, lengths=(-1,)), "0 to 1.*-1"),
    (lambda: Batches(np.ones(3), batch_size=2, lengths=(1,)), "0 to 0"),
    (lambda: Batches(np.ones(3), batch_size=2, seed=-1), "seed"),
    (lambda: Batches(np.ones(3), batch_size=2, axes=1), r"array 0 has shape \(3,\), .* no axis 1"),
    (lambda: Batches(np.ones(3), 5.0, batch_size=2), r"array 1 has shape \(\), and so no axis 0"),
    (lambda: Batches(np.array(["a", "b"]), batch_size=2), "array 0 must hold numbers.*<U1"),
    (lambda: Batches(np.array([None, 1.0]), batch_size=2), "array 0 must hold numbers"),
    (lambda: Batches(np.ones(2, complex), batch_size=2), "array 0 must hold numbers"),
])
def test_what_batches_refuse(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_lists_will_do(backend):
    x = normal(5, 3, 2)  # time-major
    batches = Batches(x, [1, 5, 2], [0.5, 1.5, 2.5], batch_size=2, axes=(1, 0, 0), lengths=(1,),
                      shuffle=False)
    a, lengths, y = next(iter(batches))
    assert is_device(a) == is_device(y) == is_device(lengths.device) == (backend != "numpy")
    assert a.shape == (5, 2, 2) and lengths.host.tolist() == [1, 5] and y.shape == (2,)
    with pytest.raises(ValueError, match="got 0 at position 1"):  # before training starts
        Batches(x, [1, 0, 2], batch_size=3, axes=(1, 0), lengths=(1,))
    with pytest.raises(ValueError, match="lengths must be .*integers.* float64"):
        Batches(x, [1.0, 2.0, 2.0], batch_size=3, axes=(1, 0), lengths=(1,))


def test_one_copy_for_each_array(double):
    batches = Batches(normal(6, 3), np.arange(6), np.ones(6, int), batch_size=2, lengths=(2,))
    with double.counting() as c:
        for _ in batches:
            pass
    assert c.h2d == 3 * 3 and c.d2h == c.sync == 0


# --- lengths

def test_lengths(backend):
    for values in ([3, 1, 5], (3, 1, 5), np.array([3, 1, 5]), np.array([3, 1, 5], "u1")):
        lengths = Lengths(values, steps=5, batch=3)
        assert lengths.host.tolist() == [3, 1, 5] and lengths.host.dtype == "int64"
        assert len(lengths) == 3 and lengths.device.shape == (3, 1)
        assert is_device(lengths.device) == (backend != "numpy")
    assert Lengths(range(1, 4)).host.tolist() == [1, 2, 3]


@pytest.mark.parametrize("values, options, kind, words", [
    ([3, 0], {}, ValueError, r"in 1..T=3, got 0 at position 1"),
    ([3, -2], {}, ValueError, "got -2 at position 1"),
    ([3, 15, 16], {"steps": 12}, ValueError, r"in 1..T=12, got 15 at position 1"),
    ([3, 2], {"batch": 3}, ValueError, "with B=3, got 2 of them"),
    ([3, 2], {"steps": 0}, ValueError, r"1..T=0, got 3 at position 0"),
    ([3.0, 2.0], {}, ValueError, r"in 1..T, got \(2,\) float64 on the CPU"),
    ([3.5], {"steps": 4}, ValueError, r"in 1..T=4, got \(1,\) float64"),
    ([True, False], {}, ValueError, r"in 1..T, got \(2,\) bool"),
    ([], {}, ValueError, r"in 1..T, got \(0,\) float64"),
    ([[3], [2]], {}, ValueError, r"got \(2, 1\) int64"),
    (np.array(3), {}, ValueError, r"got \(\) int64"),
    (["3"], {}, ValueError, "got .*<U1"),
    ([[1], [2, 3]], {}, ValueError, "lengths must be"),
    (3, {}, TypeError, "a list or a NumPy array of integers on the host, got int 3"),
    (None, {}, TypeError, "NoneType"), ("32", {}, TypeError, "str '32'"),
    ({3}, {}, TypeError, "set"),
    (Tensor(np.ones(2)), {}, TypeError, r"on the host, got \(2,\) float64"),
], ids=lambda v: str(v)[:20])
def test_lengths_that_are_refused(values, options, kind, words):
    with pytest.raises(kind, match=words):
        Lengths(values, **options)


def test_lengths_on_the_device_are_refused(double):
    with pytest.raises(TypeError, match=r"on the host, got \(2,\) int64 on the GPU"):
        Lengths(asarray([1, 2]))


# --- fit, evaluate, predict

def test_fit_repeats_bit_for_bit():
    def run():
        fresh(seed=3)
        model = Net(rate=0.2)
        history = fit(model, regression(seed=None), mse, epochs=3, learning_rate=0.01,
                      validation=regression(10), progress=False)
        return history.loss, history.validation, model.state_dict()
    one, two = run(), run()
    assert one[0] == two[0] and one[1] == two[1]
    assert all((one[2][k] == two[2][k]).all() for k in one[2])


def test_fit_learns_the_least_squares_line():
    x = normal(200, 3)
    y = (x @ np.float32([[1.0], [-2.0], [0.5]]) + 0.1 * normal(200, 1, seed=1)).astype("f4")
    model = Linear(3, 1, seed=0)
    history = fit(model, Batches(x, y, batch_size=200, seed=0), mse, epochs=400, learning_rate=0.05)
    closed = np.linalg.lstsq(np.c_[x, np.ones(200)].astype("f8"), y, rcond=None)[0].ravel()
    np.testing.assert_allclose(np.r_[to_host(model.W).ravel(), to_host(model.b)], closed, atol=1e-3)
    assert len(history.loss) == 400 and history.best_epoch == 400 and history.stopped == "all done"
    assert repr(history).startswith("400 epochs (all done): loss 0.0")


class Scripted(Module):
    "Its validation losses are given; its parameter counts the steps."
    def __init__(self, validation):
        self.p, self.validation, self.calls = Tensor(np.zeros(1, "f4")), list(validation), 0

    def forward(self, x):
        if self.training:
            return (self.p - 1000.0).sum()
        self.calls += 1
        return Tensor(np.float32(self.validation[self.calls - 1]))


def scripted(validation, **options):
    model = Scripted(validation)
    seen = []

    def loss(m, x):
        value = m(x)
        if m.training:
            seen.append(float(m.p.data[0]))
        return value
    one = Batches(np.ones(1, "f4"), batch_size=1)
    history = fit(model, one, loss, validation=one, clip=None, learning_rate=1.0, progress=False,
                  **options)
    return model, history, seen


def test_early_stopping_keeps_the_best():
    model, history, seen = scripted([5, 3, 4, 2, 2, 2.5, 1, 0], epochs=8, patience=3)
    assert history.validation == [5, 3, 4, 2, 2, 2.5, 1, 0][:8]
    assert history.best_epoch == 8 and history.stopped == "all done"
    model, history, seen = scripted([5, 3, 4, 2, 2, 2.5, 3, 0], epochs=8, patience=3)
    assert history.validation == [5, 3, 4, 2, 2, 2.5, 3] and history.best_epoch == 4
    assert history.stopped == "nothing better for 3 epochs"
    assert float(model.p.data[0]) == seen[4]  # as it was after the 4th step
    assert repr(history).startswith("7 epochs (nothing better for 3 epochs): loss")
    assert repr(history).endswith("validation 2 at epoch 4")


def test_without_patience_the_best_is_still_kept():
    model, history, seen = scripted([1, 2, 3], epochs=3)
    assert history.best_epoch == 1 and len(history.loss) == 3 and history.stopped == "all done"
    assert float(model.p.data[0]) == seen[1]
    model, history, seen = scripted([3, 2, 1], epochs=3)
    assert float(model.p.data[0]) not in seen  # the last values, after the last step


def test_a_validation_loss_that_is_no_number_is_never_the_best():
    model, history, seen = scripted([float("nan")] * 4, epochs=4, patience=2)
    assert len(history.loss) == 2 and history.best_epoch == 0
    assert "nothing better" in history.stopped
    assert "nan" in repr(history)
    _, history, _ = scripted([2, float("nan"), 1], epochs=3)
    assert history.best_epoch == 3


@pytest.mark.parametrize("options, words", [
    ({"patience": 2}, "patience needs validation"), ({"epochs": 0}, "epochs must be"),
    ({"epochs": 2.5}, "epochs must be"), ({"learning_rate": 0.0}, "learning_rate"),
    ({"clip": -1.0}, "clip"), ({"patience": 0, "validation": regression()}, "patience must be"),
    ({"patience": -1, "validation": regression()}, "patience must be")], ids=str)
def test_what_fit_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        fit(Net(), regression(), mse, progress=False, **{"epochs": 1} | options)


def test_the_optimiser_of_another_model_would_train_nothing():
    model, other = Net(), Net()
    before = model.state_dict()
    with pytest.raises(ValueError, match="the optimiser belongs to another model"):
        fit(model, regression(), mse, epochs=1, optimiser=Adam(other), progress=False)
    assert all((v == before[k]).all() for k, v in model.state_dict().items())
    for options in ({"learning_rate": 0.1}, {"clip": None}, {"clip": 2.0}):
        with pytest.raises(ValueError, match="learning_rate and clip belong to the optimiser"):
            fit(model, regression(), mse, epochs=1, progress=False, optimiser=Adam(model),
                **options)


def test_losses_that_are_no_single_recorded_number():
    one = lambda loss: fit(Net(), regression(), loss, epochs=1, progress=False)  # noqa: E731
    with pytest.raises(ValueError, match=r"the loss must be a single number, got \(8, 2\) float32"):
        one(lambda m, x, y: (m(x) - y) ** 2)
    with pytest.raises(TypeError, match=r"must be a Tensor with one number, got \(\) float32"):
        one(lambda m, x, y: mean_squared_error(to_host(m(x)), y))
    with pytest.raises(TypeError, match="must be a Tensor with one number, got float 0.5"):
        one(lambda m, x, y: 0.5)
    with pytest.raises(TypeError, match="must be a Tensor with one number, got NoneType"):
        one(lambda m, x, y: None)
    with pytest.raises(ValueError, match=r"must be a single number, got \(8, 2\) float32"):
        evaluate(Net(), regression(), lambda m, x, y: (m(x) - y) ** 2)
    with pytest.raises(TypeError, match="must be a Tensor with one number, got NoneType"):
        evaluate(Net(), regression(), lambda m, x, y: None)
    for shape in ((1,), (1, 1)):
        fit(Net(), regression(), lambda m, x, y, s=shape: mse(m, x, y).reshape(*s), epochs=1,
            validation=regression(), progress=False)


def test_fit_under_no_grad_says_so():
    with no_grad(), pytest.raises(ValueError, match="computed under no_grad"):
        fit(Net(), regression(), mse, epochs=1, progress=False)


def test_modes_and_tape_around_validation():
    modes = []

    def loss(model, x, y):
        modes.append((model.training, model.drop.training, is_recording()))
        return mse(model, x, y)
    model = Net(rate=0.5).eval()
    batches = regression(16)
    fit(model, batches, loss, epochs=2, validation=regression(8), progress=False)
    train, check = (True, True, True), (False, False, False)
    assert modes == [train, train, check] * 2
    assert model.training and model.drop.calls == 4 and is_recording()


def test_evaluate_is_the_mean_over_examples(backend):
    model = Net(rate=0.5)
    x, y = normal(11, 3), normal(11, 2)
    expected = ((to_host(predict(model, asarray(x))) - y) ** 2).mean()
    for size in (1, 3, 11, 50):
        got = evaluate(model, Batches(x, y, batch_size=size, seed=0), mse)
        assert type(got) is float and got == pytest.approx(expected, rel=1e-5)
    model.drop.eval()
    evaluate(model, Batches(x, y, batch_size=4), mse)
    assert model.training and not model.drop.training and model.drop.calls == 0
    with pytest.raises(ZeroDivisionError):
        evaluate(model, Batches(x, y, batch_size=4), lambda *a: 1 / 0)
    assert model.training and not model.drop.training and is_recording()


def test_evaluate_where_lengths_come_first():
    x, n = normal(4, 5, 1), [1, 2, 3, 4, 4]
    batches = Batches(n, x, batch_size=2, axes=(0, 1), lengths=(0,), shuffle=False)
    got = evaluate(Net(), batches, lambda m, lengths, x: Tensor(np.float32(lengths.host.mean())))
    assert got == pytest.approx(2.8)


def test_predict(backend):
    model = Net(rate=0.9)
    x = asarray(normal(4, 3))
    y = predict(model, x)
    assert not isinstance(y, Tensor) and is_device(y) == (backend != "numpy")
    assert (to_host(y) == to_host(predict(model, x))).all() and model.training
    model.drop.training = False
    predict(model, x)
    assert model.training and not model.drop.training
    one, (two, none) = predict(lambda v: (Tensor(v), [Tensor(v), None]), x)
    assert one is x and two is x and none is None
    with pytest.raises(ValueError):
        predict(model, asarray(normal(4, 2)))
    assert model.training and is_recording()


def test_progress_says_nothing_where_nobody_looks(capfd):
    fit(Net(), regression(), mse, epochs=2, validation=regression())
    out, err = capfd.readouterr()
    assert out == err == ""


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit(Net(), regression(), mse, epochs=2)
    assert "epoch" in capsys.readouterr().err
    fit(Net(), regression(), mse, epochs=2, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("ignore:overflow|invalid:RuntimeWarning")
def test_fit_stops_at_a_bad_gradient_with_the_last_good_values():
    model = Net()
    good = []

    @primitive
    def spoil(x):
        return x * 1, lambda dy: (dy * np.nan,)

    def loss(m, x, y):
        value = mse(m, x, y)
        if len(good) == 3:
            return spoil(value)
        good.append(m.state_dict())
        return value
    with pytest.raises(NonFiniteGradientError, match="step 4 .*first in parameter layers.0.W"):
        fit(model, regression(80), loss, epochs=5, progress=False)
    after = model.state_dict()
    assert all(np.isfinite(v).all() for v in after.values())
    assert any((after[k] != good[-1][k]).any() for k in after)


def test_an_optimiser_goes_on_where_it_was():
    def run(parts):
        model, adam = Net(), None
        batches = regression(shuffle=False)
        for epochs in parts:
            adam = adam or Adam(model, 0.01, clip=1.0)
            fit(model, batches, mse, epochs=epochs, optimiser=adam, progress=False)
        return model.state_dict()
    once, twice = run([4]), run([1, 3])
    assert all((once[k] == twice[k]).all() for k in once)


def test_history_of_one_epoch():
    batches = regression(16, shuffle=False)
    model = Net()
    losses = [float(mse(model, x, y)) for x, y in batches]
    history = fit(model, batches, mse, epochs=1, learning_rate=1e-12, progress=False)
    assert isinstance(history, History) and history.validation == []
    assert history.loss == [pytest.approx(np.mean(losses), rel=1e-6)]
    assert type(history.loss[0]) is float


def test_fit_on_the_double_copies_the_batches_and_nothing_else(double):
    model, batches = Net(rate=0.3), regression(40)  # 5 batches of 2 arrays
    fit(model, batches, mse, epochs=1, progress=False)
    adam = Adam(model, 0.01, clip=1.0)
    with double.counting() as c:
        fit(model, batches, mse, epochs=2, optimiser=adam, progress=False)
    assert c.h2d == 2 * 5 * 2
    assert c.d2h == c.sync == 2 * 2  # an epoch: the losses, and what Adam noted
    with double.counting() as c:
        fit(model, batches, mse, epochs=1, optimiser=adam, validation=regression(40),
            progress=False)
    assert c.h2d == 2 * 5 * 2 and c.d2h == 3


def test_numpy_and_the_double_learn_the_same(double):
    def run(place):
        fresh(seed=0)
        set_backend(place)
        model = Net(rate=0.2)
        assert is_device(model.layers[0].W.data) == (place == "cupy")
        fit(model, regression(), mse, epochs=2, learning_rate=0.01, progress=False)
        return model.state_dict()
    with using("numpy"):
        host = run("numpy")
    device = run("cupy")
    for k in host:
        np.testing.assert_allclose(device[k], host[k], rtol=1e-5, atol=1e-6)
