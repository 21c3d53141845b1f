"""Chapter 03: primitives, the tape, Tensors beside arrays, and the gradient check itself."""

import gc
import operator
import threading
import weakref

import numpy as np
import pytest

from rnntext import autograd, backend as library
from rnntext.autograd import (
    CONSTANT,
    FUNCTIONS,
    Primitive,
    TapeUsedError,
    Tensor,
    add,
    detach,
    divide,
    getitem,
    gradcheck,
    is_recording,
    matmul,
    mean,
    multiply,
    no_grad,
    power,
    primitive,
    reshape,
    subtract,
    sum_,
    transpose,
    unbroadcast,
)
from rnntext.backend import (
    DeviceError,
    asarray,
    clip,
    concatenate,
    expand_dims,
    flip,
    is_device,
    maximum,
    minimum,
    ones,
    ravel,
    relu,
    sigmoid,
    sqrt,
    stack,
    tanh,
    to_device,
    to_host,
    where,
)

pytestmark = pytest.mark.usefixtures("fresh_library")
LIMIT = 1e-8


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def away(*shape, seed=0):
    "No entry near 0."
    a = normal(*shape, seed=seed)
    return a + 0.3 * np.sign(a)


def ok(f, *args, **options):
    check = gradcheck(f, *args, **options)
    assert check.worst < LIMIT, check
    return check


# --- every primitive, against central differences

SHAPES = [((3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (3, 4)), ((3, 4), (1,)), ((1,), (3, 4)),
          ((3, 4), ()), ((), (3, 4)), ((), ()), ((3, 1), (1, 4)), ((2, 1, 4), (3, 1)),
          ((1, 1), (2,)), ((1,), (1,)), ((1, 3), (3,)), ((0, 3), (3,)), ((2, 3), (2, 1)),
          ((5, 2, 3), (1, 1, 3))]
of_shapes = pytest.mark.parametrize("left, right", SHAPES, ids=str)


@of_shapes
@pytest.mark.parametrize("op", [add, subtract, multiply, divide, FUNCTIONS["maximum"],
                                FUNCTIONS["minimum"]], ids=lambda f: f.__name__)
def test_two_arguments_that_broadcast(op, left, right):
    a, b = away(*left), away(*right, seed=1)
    assert list(ok(op, a, b).errors) == ["a", "b"]


@of_shapes
def test_where_broadcasts(left, right):
    condition = normal(*np.broadcast_shapes(left, right), seed=2) > 0
    ok(lambda a, b: where(condition, a, b), normal(*left), normal(*right))
    ok(lambda a: where(condition, a, 0.0), normal(*left))
    ok(lambda b: where(condition, 1, b), normal(*right))


@pytest.mark.parametrize("number", [2.5, 3, np.float64(0.5), np.array(2.0)], ids=repr)
def test_numbers_beside_a_tensor(number):
    for f in (lambda x: x + number, lambda x: number - x, lambda x: number * x,
              lambda x: number / x, lambda x: x / number, lambda x: x**2, lambda x: -x):
        ok(f, away(2, 3))


DOMAINS = {"log": lambda a: abs(a) + 0.1, "log1p": abs, "sqrt": lambda a: abs(a) + 0.1}


@pytest.mark.parametrize("name", sorted(autograd._ELEMENTWISE))
@pytest.mark.parametrize("shape", [(3, 4), (), (1,), (0,), (2, 1, 3)], ids=str)
def test_elementwise(name, shape):
    a = DOMAINS.get(name, lambda a: a)(away(*shape))
    ok(FUNCTIONS[name], a)
    got = FUNCTIONS[name](a)  # on arrays: the value alone
    expected = {"sigmoid": lambda v: 1 / (1 + np.exp(-v)), "relu": lambda v: np.maximum(v, 0)}.get(
        name, getattr(np, name, None))(a)
    assert isinstance(got, (np.ndarray, np.generic))
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    f = abs if name == "abs" else getattr(library, name)
    assert isinstance(f(Tensor(a)), Tensor) and (f(Tensor(a)).data == got).all()


@pytest.mark.parametrize("n", [0, 1, 2, 3, -1, -2, 0.5, -0.5, 2.5])
def test_powers(n):
    ok(lambda x: x**n, abs(away(2, 3)))
    if n == int(n):
        ok(lambda x: power(x, n), away(2, 3))


def test_powers_at_0_have_a_gradient():
    t = Tensor(np.zeros(3))
    sum(t**n for n in range(4)).sum().backward()
    assert t.grad.tolist() == [1, 1, 1]


def test_ties_and_kinks():
    def grads(f, *args):
        tensors = [Tensor(np.array(a, dtype=float)) for a in args]
        f(*tensors).sum().backward()
        return [t.grad.tolist() for t in tensors]
    assert grads(maximum, [1, 2, 3], [3, 2, 1]) == [[0, 0.5, 1], [1, 0.5, 0]]
    assert grads(minimum, [1, 2, 3], [3, 2, 1]) == [[1, 0.5, 0], [0, 0.5, 1]]
    assert grads(relu, [-1, 0, 1]) == [[0, 0, 1]] and grads(abs, [-2, 0, 2]) == [[-1, 0, 1]]
    assert grads(lambda a: clip(a, -1, 1), [-2, -1, 0, 2]) == [[0, 1, 1, 0]]


@pytest.mark.parametrize("low, high", [(-0.5, 0.5), (np.full((4,), -0.5), 0.5), (-9, 9),
                                       (np.full((2, 3, 4), -0.4), 1.0)])
def test_clip(low, high):
    ok(lambda x: clip(x, low, high), away(3, 4))


@pytest.mark.parametrize("left, right", [((3, 4), (4, 2)), ((1, 4), (4, 1)), ((2, 3, 4), (4, 5)),
                                         ((2, 1, 3, 4), (4, 2)), ((2, 3, 4), (2, 4, 5)),
                                         ((3, 4), (2, 4, 5)), ((1, 3, 4), (2, 4, 5)),
                                         ((2, 1, 3, 4), (5, 4, 1)), ((0, 4), (4, 2))], ids=str)
def test_matmul(left, right):
    a, b = normal(*left), normal(*right, seed=1)
    ok(matmul, a, b)
    np.testing.assert_allclose(to_host(Tensor(a) @ Tensor(b)), a @ b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("a, b", [(normal(3), normal(3, 2)), (normal(2, 3), normal(3)),
                                  (2.0, normal(2, 3)), ([1.0], normal(1, 3))])
def test_matmul_of_vectors_is_refused_by_name(a, b):
    with pytest.raises(ValueError, match="matmul needs at least two axes.*reshape a vector"):
        matmul(a, Tensor(b))


AXES = [None, 0, 1, -1, -3, (0,), (0, 2), (-1, 0), (2, 1), (0, 1, 2), (-3, -2, -1)]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_sums_and_means(axis, keepdims):
    a = normal(2, 3, 4)
    for f, g in ((sum_, np.sum), (mean, np.mean)):
        ok(lambda x, f=f: f(x, axis=axis, keepdims=keepdims), a)
        expected = g(a, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(to_host(f(Tensor(a), axis, keepdims)), expected, rtol=1e-12)
        np.testing.assert_allclose(f(a, axis, keepdims), expected, rtol=1e-12)
    t = Tensor(a)
    assert t.sum(axis, keepdims).shape == t.mean(axis=axis, keepdims=keepdims).shape


def test_sums_of_odd_shapes():
    for shape in ((), (1,), (1, 1, 3), (0, 2)):
        ok(lambda x: x.sum(), normal(*shape))
        ok(lambda x: x.sum(axis=()) * 2, normal(*shape))
    ok(lambda x: x.sum(axis=1, keepdims=True) * x, normal(3, 1))


@pytest.mark.parametrize("axes", [None, (0, 1, 2), (2, 0, 1), (1, 2, 0), (-1, 0, 1), (-1, -2, -3),
                                  (1, -1, 0)], ids=str)
def test_transpose(axes):
    a = normal(3, 3, 3)  # equal sizes: a wrong order keeps the shape
    ok(lambda x: transpose(x, axes), a)
    assert (to_host(transpose(Tensor(a), axes)) == a.transpose(axes)).all()


def test_methods_that_move_axes():
    t, a = Tensor(normal(2, 3, 4)), normal(2, 3, 4)
    assert t.T.shape == t.transpose().shape == (4, 3, 2)
    assert t.transpose(1, 0, 2).shape == t.transpose((1, 0, 2)).shape == (3, 2, 4)
    assert t.reshape(6, 4).shape == t.reshape((6, -1)).shape == t.reshape([6, 4]).shape == (6, 4)
    assert t.swapaxes(0, 1).shape == (3, 2, 4) and t.swapaxes(-1, 0).shape == (4, 3, 2)
    ok(lambda x: x.T * 2, a)
    ok(lambda x: x.transpose(1, 2, 0), normal(2, 2, 2))
    ok(lambda x: x.swapaxes(0, -1), normal(2, 2, 2))
    ok(lambda x: x.reshape(-1, 2), a)
    ok(lambda x: reshape(x, ()), normal(1, 1))
    ok(ravel, a)
    for axis in (0, 1, -1, (0, 3), (-1, 1)):
        ok(lambda x, axis=axis: expand_dims(x, axis), normal(2, 3))
    for axis in (None, 0, -1, (0, 1), (-1, -2)):
        ok(lambda x, axis=axis: flip(x, axis), normal(2, 3))


index = np.array([0, 2, 0, 0])
KEYS = [0, -1, slice(1, 3), slice(None, None, -1), (0, 1), (slice(None), 1), ..., (..., 0), None,
        (None, slice(0, 2)), np.int64(1), [0, 2, 0], ((0, 2, 0),), (range(2),),
        index, (index, index), (slice(None), index), (index, 1), ([1, 1], [0, 0]),
        normal(3, 4) > 0, (index[:, None], index[:2]), (np.array([], dtype=int),), slice(0, 0)]


@pytest.mark.parametrize("key", KEYS, ids=lambda k: str(k)[:30].replace("\n", " "))
def test_pieces(key):
    a = normal(3, 4)
    ok(lambda x: x[key] * 2, a)
    ok(lambda x: getitem(x, key), a)
    assert (to_host(Tensor(a)[key]) == a[key]).all()


def test_repeated_indices_add_up():
    for key in ([0, 0, 1], np.array([0, 0, 1]), ((0, 0, 1),)):
        t = Tensor(np.zeros(3))
        t[key].sum().backward()
        assert t.grad.tolist() == [2, 1, 0]


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_joins(axis):
    a, b, c = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    ok(lambda a, b: stack([a, b, a], axis=axis), a, b)
    ok(lambda a, b: concatenate([a, c, b, a], axis=axis), a, b)  # c is an array
    ok(lambda a: concatenate((a, c[:, :1])[:1], axis=axis), a)
    ok(lambda a, b: concatenate([a[:1, :1], b[:1, :1]], axis=axis), a, b)
    ok(lambda a: sum(stack([a, c], axis)), a)


def test_every_function_is_differentiated_constant_or_refused():
    whitelist = [n for n in library.__all__
                 if (getattr(library, n).__doc__ or "").startswith(f"`numpy.{n}`")]
    for name in whitelist:
        assert name in CONSTANT or name in FUNCTIONS or name in {
            "broadcast_to", "cumsum", "take_along_axis", "ascontiguousarray"}, name
        if name not in CONSTANT and name not in FUNCTIONS:
            with pytest.raises(TypeError, match=rf"no derivative here; on the value: {name}\("):
                getattr(library, name)(Tensor(normal(2)), 0)
    t = Tensor(normal(2, 3))
    for name in sorted(CONSTANT - {"logical_and"}):
        assert isinstance(getattr(library, name)(t), (np.ndarray, np.generic)), name


# --- against an answer that is not ours

def test_a_small_network_by_hand():
    x, W, v = normal(5, 3), normal(3, 4, seed=1), normal(4, 1, seed=2)
    tensors = [Tensor(a) for a in (x, W, v)]
    tx, tW, tv = tensors
    loss = ((tanh(tx @ tW) @ tv) ** 2).mean()
    loss.backward()
    h = np.tanh(x @ W)
    y = h @ v
    dy = 2 * y / y.size
    dh = dy @ v.T * (1 - h**2)
    for t, expected in zip(tensors, (dh @ W.T, x.T @ dh, h.T @ dy), strict=True):
        np.testing.assert_allclose(t.grad, expected, rtol=1e-12)
    assert loss.shape == () and float(loss) == pytest.approx((y**2).mean())


# --- the tape

def test_shared_values_and_diamonds():
    t = Tensor(np.array([0.7]))
    a = t * t
    b, c = a * 3.0, tanh(a)
    (b * c + a).sum().backward()
    x = 0.7
    h = np.tanh(x * x)
    expected = 2 * x * (3 * h + 3 * x * x * (1 - h * h) + 1)
    assert t.grad[0] == pytest.approx(expected, rel=1e-13)
    t = Tensor(np.array(3.0))
    (t + t + t * t).backward()
    assert t.grad == 8


def test_a_diamond_of_40_levels_takes_no_time():
    t = y = Tensor(np.array(1.0))
    for _ in range(40):
        y = y + y
    y.backward()
    assert t.grad == 2.0**40


def test_gradients_accumulate_in_leaves_only():
    t = Tensor(np.ones(2))
    for n in (1, 2, 3):
        middle = t * 2.0
        middle.sum().backward()
        assert t.grad.tolist() == [2 * n] * 2 and middle.grad is None
    kept = t.grad
    (t * 1.0).sum().backward()
    assert t.grad is kept  # in place: it may be a view of a buffer


def test_a_leaf_owns_its_gradient():
    a, b = Tensor(np.ones(3)), Tensor(np.ones(3))
    given = np.ones(3)
    (a + b).backward(given)
    a.grad += 1
    assert b.grad.tolist() == given.tolist() == [1, 1, 1]
    c = Tensor(np.ones((2, 3)))
    c.sum().backward()
    c.grad += 1  # not the read-only view of a broadcast number
    assert c.grad.flags.owndata and (c.grad == 2).all()


def test_a_chain_of_10_000_nodes():
    t = y = Tensor(np.array([1.0]))
    for _ in range(10_000):
        y = y * 1.0001
    y.sum().backward()
    assert t.grad[0] == pytest.approx(1.0001**10_000)
    y = t
    for _ in range(50_000):  # thrown away without a backward: no recursion either
        y = y + 1.0
    del y


def test_a_used_tape_is_refused_before_anything_changes():
    t, other = Tensor(np.ones(2)), Tensor(np.ones(2))
    shared = t * 2.0
    first, second = shared.sum(), (shared * other).sum()
    first.backward()
    for again in (first, second):
        with pytest.raises(TapeUsedError, match="Compute the forward pass again"):
            again.backward()
    assert t.grad.tolist() == [2, 2] and other.grad is None
    (t * 2.0).sum().backward()
    assert t.grad.tolist() == [4, 4]


def test_backward_from_what_was_not_recorded():
    t = Tensor(np.ones(2))
    with no_grad():
        quiet = (t * t).sum()
    for y in (quiet, t, Tensor(np.array(1.0))):
        with pytest.raises(ValueError, match="nothing was recorded"):
            y.backward()
    with pytest.raises(ValueError, match=r"a single number, but the value has shape \(2,\)"):
        (t * t).backward()
    assert t.grad is None


def test_gradients_that_are_given():
    t = Tensor(np.ones((2, 1), "f4"))
    (t * 2.0).backward(np.ones((2, 1)))  # float64 comes, float32 stays
    assert t.grad.dtype == "float32" and t.grad.tolist() == [[2], [2]]
    (t * 2.0).backward([[1], [0.5]])
    (t * 2.0).backward(Tensor(np.ones((2, 1), "f4")))
    t.sum().backward(3.0)
    assert t.grad.tolist() == [[9], [8]]
    for wrong in (np.ones(2), np.ones((1, 2)), 1.0):
        with pytest.raises(ValueError, match=r"has shape .*, the value has \(2, 1\)"):
            (t * 2.0).backward(wrong)


def test_one_number_of_any_shape_starts_a_backward():
    for shape in ((), (1,), (1, 1)):
        t = Tensor(np.full(shape, 2.0))
        (t * t).backward()
        assert t.grad.shape == shape and t.grad.item() == 4


def test_no_grad_holds_for_its_thread():
    t, found = Tensor(np.ones(2)), []

    def work():
        found.append(is_recording())
        y = (t * t).sum()
        y.backward()
        with no_grad():
            found.append(is_recording())
    with no_grad():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        y = t * t
        assert isinstance(y, Tensor) and y._node is None and not is_recording()
        with no_grad():
            pass
        assert not is_recording()
    assert found == [True, False] and is_recording() and t.grad.tolist() == [2, 2]
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_recording()


def test_threads_record_side_by_side():
    def work(k):
        t = y = Tensor(np.array(float(k)))
        for _ in range(200):
            y = y * 1.0 + t
        y.backward()
        found[k] = float(t.grad)
    found = {}
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert found == dict.fromkeys(range(8), 201.0)


def test_detach():
    t = Tensor(np.ones(2))
    y = t * 2.0
    assert detach(y) is y.data and detach(None) is None and detach(3) == 3
    a, (b, c) = detach((y, [t, None]))
    assert a is y.data and b is t.data and c is None
    (y * detach(y)).sum().backward()
    assert t.grad.tolist() == [4, 4]  # not 8: the second factor is a constant


def test_several_outputs_of_which_one_is_unused():
    seen = []

    @primitive
    def pair(x):
        def pullback(da, db):
            seen.append((da.copy(), db.copy()))
            return (2 * da + 3 * db.sum(),)
        return (2 * x, 3 * x[:1]), pullback
    for use, expected in ((lambda a, b: a.sum(), 2), (lambda a, b: b.sum(), 3),
                          (lambda a, b: a.sum() + b.sum(), 5)):
        t = Tensor(np.ones(2, "f4"))
        a, b = pair(t)
        use(a, b).backward()
        assert t.grad.dtype == "float32" and t.grad[0] == expected
    assert [(a.sum(), b.sum()) for a, b in seen] == [(2, 0), (0, 1), (2, 1)]
    assert all(b.shape == (1,) and b.dtype == "float32" for _, b in seen)
    values = pair(np.ones(2))
    assert type(values) is tuple and isinstance(values[0], np.ndarray)
    y, back = pair.pullback(Tensor(np.ones(2)))
    assert isinstance(y[0], np.ndarray) and back(np.ones(2), np.ones(1))[0].tolist() == [5, 5]


def test_save_is_given_only_where_it_is_needed():
    asked = []

    @primitive
    def saving(x, *, save=False):
        "One that saves."
        asked.append(save)
        return x * 2, (lambda dy: (dy * 2,)) if save else None
    t = Tensor(np.ones(2))
    saving(np.ones(2))
    with no_grad():
        saving(t)
    saving(t).sum().backward()
    saving.pullback(np.ones(2))
    assert asked == [False, False, True, True] and t.grad.tolist() == [2, 2]
    assert saving.__name__ == "saving" and saving.__doc__ == "One that saves."
    assert isinstance(saving, Primitive)


def test_what_is_recorded_is_freed():
    @primitive
    def watched(x):
        kept = np.ones(1000)
        alive.append(weakref.ref(kept))
        return x * 2, lambda dy: (dy * 2 * kept[0],)
    alive = []
    t = Tensor(np.ones(2))
    gc.disable()
    try:
        loss = watched(t * 3.0).sum()
        assert alive[-1]() is not None
        loss.backward()
        assert alive[-1]() is None, "the tape still holds it, though the loss is only a number now"
        watched(t)
        assert alive[-1]() is None, "dropping the value must drop the tape, without the collector"
        with no_grad():
            quiet = watched(t)
        assert alive[-1]() is None and quiet.shape == (2,)
    finally:
        gc.enable()
    assert loss._node.inputs == ()


def test_a_gradient_keeps_the_type_of_its_tensor():
    for dtype in ("float32", "float64"):
        t = Tensor(np.ones((2, 3), dtype))
        constant = np.ones((2, 3))  # float64
        W = Tensor(np.ones((3, 2), dtype))
        y = concatenate([t * constant, t], axis=1).sum() + (t @ W).mean() + t[0].sum() * 0.5
        (y + sqrt(abs(t) + 1).sum() + maximum(t, 0.3).sum() + where(t > 0, t, 0.0).sum()).backward()
        assert t.grad.dtype == W.grad.dtype == dtype


@pytest.mark.parametrize("f", [
    lambda t: t + 1, lambda t: 1 - t, lambda t: t * 0.5, lambda t: 2 / t, lambda t: t**2,
    lambda t: t**-0.5, lambda t: -t, abs, tanh, sigmoid, relu, lambda t: t.mean(),
    lambda t: t.sum(), lambda t: t.mean(axis=0), lambda t: t - t.mean(axis=1, keepdims=True),
    lambda t: maximum(t, 0),
    lambda t: clip(t, 0.1, 0.2), lambda t: where(t > 0.1, t, 0.0), lambda t: stack([t, t]),
    lambda t: t @ t.T, lambda t: t[0], lambda t: t.sum() * 0.5 / 3])
def test_nothing_on_the_tape_becomes_float64(f, backend):
    t = Tensor(to_device(abs(normal(2, 3)).astype("f4") + 0.1))
    y = f(t)
    assert y.dtype == "float32"
    seen = []
    inner = y._node.pullback
    y._node.pullback = lambda *dy: seen.extend(inner(*dy)) or tuple(seen)
    y.backward(asarray(np.ones(y.shape, "f4")))
    assert t.grad.dtype == "float32" and {g.dtype for g in seen if g is not None} == {
        np.dtype("float32")}


# --- a pullback that is wrong

def wrong_pullback(pullback):
    @primitive
    def f(x, y=None):
        return x * 2, pullback
    return f


def test_a_pullback_without_its_comma_is_named():
    for t in (Tensor(np.ones((1, 2))), Tensor(np.ones((1, 2))) * 1.0):
        y = wrong_pullback(lambda dy: dy * 2)(t)
        with pytest.raises(TypeError, match="a pullback returns a tuple.*is a comma missing"):
            y.sum().backward()


def test_a_primitive_that_is_none_is_named():
    x = Tensor(np.ones(3))
    for returned, what in ((lambda x: x, "a ndarray"), (lambda x: (x, None), "a tuple"),
                           (lambda x: (x, x, x), "a tuple"), (lambda x: None, "a NoneType")):
        with pytest.raises(TypeError, match=f"its value and its pullback .*returned {what}"):
            primitive(returned)(x)
    with no_grad():  # without a tape nobody asks for the pullback
        assert float(primitive(lambda x: (x * 2, None))(x).sum()) == 6


def test_backward_and_mean_name_what_they_cannot_take():
    with pytest.raises(TypeError, match=r"backward starts from a Tensor, got \(3,\) float64"):
        autograd.backward(np.ones(3))
    for axis in (None, 0):
        with pytest.raises(ValueError, match=r"at least one entry, got shape \(0, 3\)"):
            Tensor(np.ones((0, 3))).mean(axis=axis)


def test_a_list_of_tensors_is_no_tensor():
    "It would silently forget how its parts were made."
    parts = [Tensor(np.ones(1)), Tensor(np.ones(1)) * 2]
    for wrong in (parts, tuple(parts)):
        with pytest.raises(TypeError, match="of Tensors would forget how they were made: stack"):
            Tensor(wrong)


def test_a_gradient_of_another_shape_is_named():
    for t in (Tensor(np.ones((2, 2))), Tensor(np.ones((2, 2))) * 1.0):
        y = wrong_pullback(lambda dy: (dy.sum(axis=0),))(t)
        with pytest.raises(ValueError, match=r"gradient of shape \(2,\) came for .*\(2, 2\)"):
            y.sum().backward()


def test_a_tensor_that_would_get_no_gradient_is_refused():
    t, n = Tensor(np.ones(2) * 2), Tensor(np.array(2.0))
    with pytest.raises(TypeError, match="argument 1 is a Tensor.*give detach"):
        wrong_pullback(lambda dy: (dy * 2,))(t, n).sum().backward()
    for call in (lambda: t**n, lambda: 2.0**t, lambda: np.ones(2) ** t, lambda: t ** np.ones(2)):
        with pytest.raises(TypeError, match=r"exponent must be a number.*exp\(n \* log\(a\)\)"):
            call()
    with pytest.raises(TypeError, match="given by position, not by name"):
        wrong_pullback(None)(t, y=n)
    with pytest.raises(TypeError, match="inside a list or tuple would get no gradient"):
        wrong_pullback(None)(t, [n])


# --- Tensors beside arrays

PAIRS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul]


@pytest.mark.parametrize("op", PAIRS, ids=lambda f: f.__name__)
def test_operators_with_an_array_on_either_side(op, backend):
    left, right = normal(3, 3), away(3, 3, seed=1)
    a, b = to_device(left), to_device(right)
    for x, y in ((a, Tensor(b)), (Tensor(a), b), (Tensor(a), Tensor(b))):
        z = op(x, y)
        assert isinstance(z, Tensor) and is_device(z.data) == (backend != "numpy")
        np.testing.assert_allclose(to_host(z), op(left, right), rtol=1e-12)
    ta, tb = Tensor(a), Tensor(b)
    (op(ta, b).sum() + op(a, tb).sum()).backward()
    both = [Tensor(a), Tensor(b)]
    op(*both).sum().backward()
    for one, two in zip((ta, tb), both, strict=True):
        np.testing.assert_allclose(to_host(one.grad), to_host(two.grad), rtol=1e-12)


COMPARE = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


@pytest.mark.parametrize("op", COMPARE, ids=lambda f: f.__name__)
def test_comparisons_give_plain_arrays(op, backend):
    left, right = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0])
    expected = op(left, right).tolist()
    a, b = to_device(left), to_device(right)
    for x, y in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b)), (Tensor(a), 1.0)):
        got = op(x, y)
        assert not isinstance(got, Tensor) and got.dtype == bool
        assert is_device(got) == (backend != "numpy") and to_host(got).tolist() == expected


def test_tensors_are_keys_by_identity():
    t, u = Tensor(np.ones(2)), Tensor(np.ones(2))
    assert len({t, u, t}) == 2 and {t: 1}[t] == 1


def test_assignment_operators_make_a_new_value():
    t = kept = Tensor(np.ones(2))
    t += 1.0
    t *= 2.0
    assert t is not kept and kept.data.tolist() == [1, 1] and t.data.tolist() == [4, 4]
    with pytest.raises(TypeError):
        kept[0] = 1.0
    a = np.ones(2)
    a += 1
    with pytest.raises(TypeError):
        np.add(a, kept)  # NumPy's own functions do not record


def test_a_tensor_is_true_as_an_array_is():
    assert Tensor(np.array(1.0)) and not Tensor(np.array([0.0]))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor(np.ones(2)))


def test_what_a_tensor_shows():
    t = Tensor(np.arange(6.0).reshape(2, 3))
    assert (t.shape, t.dtype, t.ndim, t.size, len(t)) == ((2, 3), "float64", 2, 6, 2)
    assert [r.data.tolist() for r in t] == t.data.tolist() and float(t[0, 1]) == 1.0
    assert np.asarray(t) is t.data and np.array(t) is not t.data
    assert np.asarray(t, dtype="f4").dtype == "float32"
    assert repr(Tensor(np.ones(2))) == "Tensor(array([1., 1.]))"
    assert repr(Tensor(np.ones(2)) * 1.0).endswith(", recorded)")
    assert Tensor(t).data is t.data


def test_a_numpy_number_becomes_an_array_that_can_be_written():
    t = Tensor(np.float32(2.0))
    assert isinstance(t.data, np.ndarray) and t.dtype == "float32"
    t.data[...] = 3.0
    (t * t).backward()
    assert t.grad == 6


def test_numbers_take_the_type_of_the_settings(backend):
    t = Tensor([1.0, 2.0])
    assert t.dtype == "float32" and is_device(t.data) == (backend != "numpy")


@pytest.mark.parametrize("data", [np.array([1, 2]), [1, 2], np.array([True]), np.array([1j]), None,
                                  np.array(["a"]), 3], ids=repr)
def test_what_is_not_floating_point_is_refused(data):
    with pytest.raises(TypeError, match="floating-point numbers.*lengths stay plain|only numbers"):
        Tensor(data)


def test_a_tensor_cannot_meet_the_other_device(double):
    t = Tensor(ones(3))
    with pytest.raises(DeviceError, match="on the CPU.*on the GPU"):
        maximum(t, np.ones(3, "f4"))
    with pytest.raises(DeviceError):
        (t * 2.0).backward(np.ones(3))


def test_primitives_on_the_double(double):
    "The gradients of a bit of everything, the same as on NumPy, without a copy or a wait."
    def work(x, W):
        h = tanh(x @ W) + relu(x @ W) * 0.5
        h = concatenate([h, flip(h, 1)], axis=1)
        y = where(h > 0, h, 0.1 * h)[:, ::2] / (1 + abs(x[:1, :1]))
        y = stack([y, clip(y, -1.0, 1.0)], axis=1).mean(axis=(0, -1), keepdims=True)
        return (y.reshape(-1) ** 2).sum() + x[ids].sum() + maximum(W, 0.1).T.mean()
    arrays = normal(4, 3).astype("f4"), normal(3, 2).astype("f4")
    ids = to_device(np.array([0, 0, 2]))
    device = [Tensor(to_device(a)) for a in arrays]
    with double.counting() as c:
        work(*device).backward()
    assert c.sync == c.h2d == c.d2h == 0, c
    ids = to_host(ids)
    host = [Tensor(a) for a in arrays]
    work(*host).backward()
    for a, b in zip(device, host, strict=True):
        assert is_device(a.grad) and a.grad.dtype == "float32"
        np.testing.assert_allclose(to_host(a.grad), b.grad, rtol=1e-5, atol=1e-6)


def test_gradcheck_on_the_double(double):
    with library.using("cupy"):
        ok(lambda a, b: tanh(a @ b), to_device(normal(2, 3)), to_device(normal(3, 2)))
        ok(lambda a: a[[0, 0, 1]] * 2, to_device(normal(2, 3)))
        ok(lambda a: a * a, normal(2, 3))  # host arrays stay on the host
    with library.using("numpy"):
        ok(lambda a: a * a, sigmoid(ones(2, dtype="float64")))


# --- the check itself

def planted(gradient):
    @primitive
    def product(x, W):
        return x @ W, lambda dy: gradient(dy, x, W)
    return product


@pytest.mark.parametrize("gradient", [
    lambda dy, x, W: (2 * dy @ W.T, x.T @ dy),
    lambda dy, x, W: (dy @ W.T, -x.T @ dy),
    lambda dy, x, W: (dy @ W.T, (x.T @ dy).T),
    lambda dy, x, W: (dy @ W, x.T @ dy),
    lambda dy, x, W: (dy @ W.T * (1 + 1e-5), x.T @ dy),
    lambda dy, x, W: (dy @ W.T, x.T @ dy + 1e-5),
    lambda dy, x, W: (None, x.T @ dy),
    lambda dy, x, W: (dy @ W.T, 0 * W),
    lambda dy, x, W: (dy[::-1] @ W.T, x.T @ dy),
    lambda dy, x, W: (dy @ W.T * np.nan, x.T @ dy),
    lambda dy, x, W: (dy @ W.T, np.where(np.eye(3) > 0, np.nan, x.T @ dy)),
    lambda dy, x, W: (dy @ W.T, x.T @ dy + np.inf),
])
@pytest.mark.parametrize("directional", [False, True])
def test_planted_errors_are_found(gradient, directional):
    check = gradcheck(planted(gradient), normal(3, 3), normal(3, 3, seed=1),
                      directional=directional)
    assert check.worst > 1e-6
    assert sorted(check.errors) == ["W", "x"] and check.worst == max(check.errors.values())


def test_a_missing_sum_is_found():
    @primitive
    def bias(x, b):
        return x + b, lambda dy: (dy, dy[0])
    check = gradcheck(bias, normal(3, 4), normal(4))
    assert check.errors["x"] < LIMIT and check.errors["b"] > 0.1
    assert "`b`" in repr(check) and "largest relative error" in repr(check)


def test_nan_is_no_small_error():
    @primitive
    def flat(x, y):
        return 0 * x + y, lambda dy: (dy * np.nan, dy)  # x should get 0, gets NaN
    for directional in (False, True):
        check = gradcheck(flat, normal(3), normal(3), directional=directional)
        assert check.errors["x"] == check.worst == float("inf") and check.errors["y"] < LIMIT

    @primitive
    def hole(x):
        return np.where(x > 100, x, np.nan), lambda dy: (dy * 0,)
    assert gradcheck(hole, normal(3)).worst == float("inf")


def test_a_gradient_that_should_be_0():
    assert gradcheck(lambda x: x * 0.0, normal(3)).worst == 0

    @primitive
    def noise(x):
        return x * 0, lambda dy: (dy * 1e-3,)
    assert gradcheck(noise, normal(3)).worst == 1


def test_views_and_other_layouts_are_checked():
    a = normal(3, 4)
    for view in (a.T, a[:, ::2], np.asfortranarray(a), a[::-1], np.broadcast_to(a[0], (3, 4)),
                 a.astype("f4"), np.float64(0.3), np.array(0.3), Tensor(a.T)):
        before = np.array(view)
        ok(lambda x: tanh(x) * 2.0, view)
        ok(lambda x: tanh(x) * 2.0, view, directional=True)
        assert (np.asarray(view) == before).all()


def test_no_name_may_hide_another():
    a, b = np.ones(3), np.ones(3)
    product = lambda a, b: a * b  # noqa: E731
    for names, parameters in ((["a", "a"], {}), (["a"], {}), (["a", "b", "c"], {}),
                              (None, {"a": Tensor(np.ones(3))})):
        with pytest.raises(ValueError, match="one name for each of 2 arguments and no name twice"):
            gradcheck(product, a, b, names=names, parameters=parameters)
    with pytest.raises(TypeError, match="parameter W is a ndarray, not a Tensor"):
        gradcheck(product, a, b, parameters={"W": np.ones(3)})
    with pytest.raises(TypeError, match="nothing to check.*floating-point numbers become Tensors"):
        gradcheck(lambda n: np.ones(n), 3)


def test_parameters_are_checked_and_left_as_they_were():
    W = Tensor(np.asfortranarray(normal(3, 2)))
    before = W.data.copy()
    for directional in (False, True):
        check = ok(lambda x: tanh(x @ W), normal(4, 3), parameters={"W": W},
                   directional=directional)
        assert list(check.errors) == ["x", "W"] and (W.data == before).all()
    with pytest.raises(TypeError, match="parameter W is float32: gradients are checked in float64"):
        gradcheck(lambda x: x, normal(2), parameters={"W": Tensor(np.ones(2, "f4"))})


def test_other_arguments_are_passed_through():
    ids, mask = np.array([0, 1]), np.array([True, False])
    check = ok(lambda x, ids, mask, none, n: x[ids] * mask * n, normal(2), ids, mask, None, 2)
    assert list(check.errors) == ["x"]
    assert list(ok(lambda *xs: xs[0] * xs[1], normal(2), normal(2)).errors) == [
        "argument 0", "argument 1"]
    assert list(ok(lambda a, b: a * b, normal(2), normal(2), names=["u", "v"]).errors) == ["u", "v"]
    ok(lambda a: (a * 2, [a * a, None], (tanh(a),)), normal(2))  # all outputs count
    with pytest.raises(TypeError, match="nothing to check"):
        gradcheck(lambda x: detach(x) * 2, normal(2))
    with pytest.raises(TypeError, match="nothing to check"):
        gradcheck(lambda n: np.ones(2), 3)


def test_every_output_counts():
    @primitive
    def pair(x):
        return (x * 2, x * 3), lambda da, db: (2 * da + 2 * db,)
    assert gradcheck(pair, normal(3)).worst > 0.01


def test_unbroadcast():
    grad = np.ones((2, 3, 4))
    for shape in ((2, 3, 4), (3, 4), (4,), (), (1,), (1, 4), (2, 1, 4), (3, 1), (1, 1, 1)):
        got = unbroadcast(grad, np.ones(shape))
        assert got.shape == shape and np.sum(got) == 24
    assert unbroadcast(grad, 2.0) is None
