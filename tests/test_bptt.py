"""Chapter 07: Jacobians, gradients of states, truncation, and the two tasks.

Independent answers: central differences in float64, closed forms, simulation.
"""

import doctest
import itertools

import numpy as np
import pytest
from under_law import KINDS

from rnntext import bptt
from rnntext.autograd import Tensor, no_grad
from rnntext.backend import asarray, to_host
from rnntext.bptt import (
    Carry, Chunks, adding_floor, adding_problem, carried, copy_floor, copy_memory, gradient_error,
    singular_values, state_gradients, step_jacobians, truncated_gradient,
)
from rnntext.learn import (
    Adam, Batches, Linear, Module, cross_entropy, evaluate, fit, mean_squared_error,
)
from rnntext.rnn import NONLINEARITIES, RNN, orthogonal, rnn_step
from rnntext.sequences import Streams


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# Jacobians and their products.


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_a_jacobian_is_what_differences_say(nonlinearity):
    W, R, b, x = normal(2, 4), normal(4, 4, seed=1), normal(4, seed=2), normal(3, 2, seed=3)
    h, eps = normal(3, 4, seed=4), 1e-6
    J = step_jacobians(rnn_step(x, h, W, R, b, nonlinearity), R, nonlinearity)
    assert J.shape == (3, 4, 4)
    for i in range(4):
        e = eps * np.eye(4)[i]
        up, down = (rnn_step(x, h + s * e, W, R, b, nonlinearity) for s in (1, -1))
        assert np.abs(J[:, i] - (up - down) / (2 * eps)).max() < 1e-8


def test_jacobians_take_tensors_and_refuse_what_does_not_fit():
    layer = RNN(2, 3, seed=0)
    y, _ = layer(np.zeros((5, 2, 2), "float32"))
    assert type(step_jacobians(y, layer.R_l0)) is np.ndarray
    with pytest.raises(ValueError, match="one of tanh, relu, identity, got 'sine'"):
        step_jacobians(y, layer.R_l0, "sine")
    for h, R in ((np.zeros((5, 4)), np.eye(3)), (np.zeros(3), np.zeros((3, 6)))):
        with pytest.raises(ValueError, match=r"h must be \(..., H\) and R \(H, H\)"):
            step_jacobians(h, R)


def test_singular_values_of_scaled_orthogonal_matrices_are_powers():
    A = 0.5 * orthogonal((6, 6), np.random.default_rng(0))
    s = singular_values(np.stack([A] * 2000))
    with np.errstate(under="ignore"):
        expected = 0.5 ** np.arange(1, 2001.0)
    assert s.shape == (2000, 6)
    assert np.allclose(s[:900], expected[:900, None], rtol=1e-9, atol=0)
    big = singular_values(np.stack([16 * A] * 500))  # overflow at 2^1024 is infinity, no error
    assert np.isinf(big[-1]).all() and np.allclose(big[99], 8.0**100, rtol=1e-9)


def test_the_product_is_taken_in_the_order_of_time():
    J = normal(5, 4, 4)
    s = singular_values(J)
    for k in range(1, 6):
        product = np.linalg.multi_dot([np.eye(4), *J[5 - k:]])  # J_{T-k+1} ... J_T
        assert np.allclose(s[k - 1], np.linalg.svd(product, compute_uv=False), rtol=1e-9)


def test_what_rounding_drowned_is_not_a_number_and_what_is_gone_is_zero():
    s = singular_values(np.stack([np.diag([1.0, 1e-3])] * 10))
    assert np.allclose(s[:, 0], 1) and np.allclose(s[:5, 1], 1e-3 ** np.arange(1, 6), rtol=1e-9)
    assert np.isnan(s[5:, 1]).all()
    chain = singular_values(np.stack([2 * np.eye(3, k=1)] * 5))  # nilpotent
    assert np.allclose(chain[:2, 0], [2, 4]) and (chain[2:] == 0).all()
    assert np.isnan(singular_values(np.array([[[np.nan]], [[1.0]]]))[1]).all()
    with pytest.raises(ValueError, match=r"\(T, H, H\), got \(2, 3\)"):
        singular_values(np.zeros((2, 3)))


# Gradients of states.


class Last(Module):
    "Reads all outputs and the last state with fixed weights, so that every path counts."

    def __init__(self, layer):
        self.layer = layer
        self.w = [normal(9, 3, layer.hidden_size, seed=i) for i in range(3)]

    def forward(self, x, state=None, lengths=None):
        y, end = self.layer(x, state, lengths)
        parts = end if isinstance(end, tuple) else (end,)
        w_y = self.w[0][:, :, :y.shape[2]][:len(y), :y.shape[1]]
        total = (y * asarray(w_y.astype(y.dtype))).sum()
        for part, w in zip(parts, self.w[1:], strict=False):
            total = total + (part * asarray(w[:part.shape[0], :part.shape[1], :part.shape[2]]
                                            .astype(y.dtype))).sum()
        return total


def loss(model, *batch):
    return model(*batch)


def tupled(state):
    return state if isinstance(state, tuple) else (state,)


def by_differences(model, x, t, b, n, T, eps=1e-6):
    "dL/dh_t of one sequence of length n that runs alone, all of T steps counted."
    layer, alone = model.layer, x[:n, b:b + 1]

    def value(state):
        "The rest of the loss, from a state after step t."
        with no_grad():
            total, end = 0.0, state
            if t <= n:  # the output at t is the state of the top layer
                total += (state[0][-1, 0] * model.w[0][t - 1, b, :state[0].shape[2]]).sum()
            if t < n:
                y, end = layer(alone[t:], state if len(state) > 1 else state[0])
                total += (to_host(y)[:, 0] * model.w[0][t:n, b, :y.shape[2]]).sum()
                end = tupled(end)
            for part, w in zip(end, model.w[1:], strict=False):
                part = to_host(part)[:, 0]
                total += (part * w[:part.shape[0], b, :part.shape[1]]).sum()
        return total

    with no_grad():
        start = tuple(to_host(a).copy() for a in tupled(layer(alone[:min(t, n)])[1]))
    found = []
    for i, part in enumerate(start):
        g = np.zeros(part.shape)
        for index in np.ndindex(*part.shape):
            ends = []
            for by in (eps, -eps):
                state = tuple(a.copy() for a in start)
                state[i][index] += by
                ends.append(value(state))
            g[index] = (ends[0] - ends[1]) / (2 * eps)
        found.append(g[:, 0])
    return found


OPTIONS = [{}, {"num_layers": 2}, {"num_layers": 2, "learn_state": True}]


@pytest.mark.parametrize("lengths", [None, [6, 1, 4]], ids=["full", "ragged"])
@pytest.mark.parametrize("options", OPTIONS, ids=["one", "two", "two-learnt"])
@pytest.mark.parametrize("kind", KINDS)
def test_state_gradients_are_what_differences_say(kind, options, lengths):
    model = Last(KINDS[kind].make(2, 3, dtype="float64", seed=1, **options))
    for p in model.parameters().values():  # no bias and no initial state is zero
        p.data[...] += 0.3 * normal(*p.shape, seed=p.size)
    x = normal(6, 3, 2, seed=3)
    given = x.copy()
    if lengths is not None:
        given[np.arange(6)[:, None] >= np.array(lengths)] = np.nan
    found = tupled(state_gradients(model, loss, given, None, lengths))
    for b, t in itertools.product(range(3), range(1, 7)):
        n = 6 if lengths is None else lengths[b]
        expected = by_differences(model, x, t, b, n, 6)
        for g, e in zip(found, expected, strict=True):
            assert np.abs(g[t - 1, :, b] - e).max() < 1e-7 * max(1, np.abs(e).max())


def test_a_projected_state_and_a_state_given():
    model = Last(KINDS["LSTM"].make(2, 3, dtype="float64", seed=1, proj_size=2))
    x, start = normal(4, 1, 2), (normal(1, 1, 2, seed=1), normal(1, 1, 3, seed=2))
    h, c = state_gradients(model, loss, x, start)
    assert h.shape == (4, 1, 1, 2) and c.shape == (4, 1, 1, 3)
    whole = normal(6, 1, 2)
    with no_grad():
        state = tuple(map(to_host, model.layer(whole[:2])[1]))
    model.w = [w[2:] if i == 0 else w for i, w in enumerate(model.w)]
    shifted = Last(model.layer)
    shifted.w = [np.concatenate([np.zeros((2, *model.w[0].shape[1:])), model.w[0]]), *model.w[1:]]
    part = state_gradients(model, loss, whole[2:], state)
    full = state_gradients(shifted, loss, whole)
    for a, b in zip(part, full, strict=True):
        assert np.abs(a - b[2:]).max() < 1e-12


def test_the_model_is_left_as_it_was():
    model = Last(RNN(2, 3, num_layers=2, dropout=0.5, seed=0))
    optimiser = Adam(model, 0.1)  # gradients are views of its buffer
    model(normal(4, 2, 2).astype("float32")).backward()
    kept = {k: (p.grad, p.grad.copy(), p.data.copy()) for k, p in model.parameters().items()}
    model.layer.eval()
    modes = [m.training for m in model.modules()]
    x = normal(4, 2, 2).astype("float32")
    twice = [state_gradients(model, loss, x) for _ in range(2)]
    assert (twice[0] == twice[1]).all()  # no dropout
    with pytest.raises(ZeroDivisionError):
        state_gradients(model, lambda m, x: m(x) / (1 // 0), x)
    assert "forward" not in vars(model.layer)
    assert [m.training for m in model.modules()] == modes and True in modes
    for k, p in model.parameters().items():
        grad, values, data = kept[k]
        assert p.grad is grad and (p.grad == values).all() and (p.data == data).all()
    assert optimiser.flat.in_use()


class Two(Module):
    def __init__(self):
        self.first, self.second = RNN(2, 3, seed=0), RNN(3, 3, seed=1)

    def forward(self, x):
        return self.second(self.first(x)[0])[1].sum()


def test_one_layer_of_several_is_named():
    model, x = Two(), normal(4, 2, 2).astype("float32")
    with pytest.raises(ValueError, match="2 recurrent layers: say which"):
        state_gradients(model, loss, x)
    with pytest.raises(ValueError, match="no recurrent layer of this model"):
        state_gradients(model, loss, x, layer=RNN(2, 3))
    first, second = (state_gradients(model, loss, x, layer=m) for m in (model.first, model.second))
    assert first.shape == second.shape == (4, 1, 2, 3)
    dx = Tensor(np.zeros((4, 2, 3), "float32"))  # what the second layer hands to the first
    model.second(model.first(x)[0].data + dx)[1].sum().backward()
    assert np.abs(first[-1, 0] - dx.grad[-1]).max() < 1e-6
    with pytest.raises(ValueError, match="has 0 recurrent layers"):
        state_gradients(Linear(2, 1), lambda m, x: m(x).sum(), x)


def test_what_cannot_be_watched_is_refused():
    x = normal(4, 2, 2).astype("float32")
    model = Last(RNN(2, 3, seed=0))
    cases = [
        (model, lambda m, x: m(x) + m(x), ValueError, "more than once"),
        (model, lambda m, x: (m.layer.R_l0 * 1.0).sum(), ValueError, "did not call"),
        (model, lambda m, x: float(m(x)), TypeError, "must be a Tensor .* got a float"),
        (Last(RNN(2, 3, bidirectional=True)), loss, ValueError, "step by step"),
    ]
    for m, f, error, words in cases:
        with pytest.raises(error, match=words):
            state_gradients(m, f, x)
        assert "forward" not in vars(m.layer)
    with pytest.raises(ValueError, match=r"x must have shape \(T, B, 2\), got \(4, 2, 3\)"):
        state_gradients(model, loss, np.zeros((4, 2, 3), "float32"))
    with pytest.raises(ValueError, match="integers in 1..T=4"):
        state_gradients(model, loss, x, None, [4, 5])

    class Squared(RNN):
        def step(self, x, state=None):
            y, state = super().step(x, state)
            return y * y, state

    with pytest.raises(ValueError, match="not the state of its top layer"):
        state_gradients(Last(Squared(2, 3, seed=0)), loss, x)


def test_states_on_every_device(backend):
    model = Last(RNN(2, 3, seed=0))
    g = state_gradients(model, loss, asarray(normal(4, 2, 2).astype("float32")), None, [4, 2])
    assert type(g) is type(model.layer.R_l0.data)
    J = step_jacobians(model.layer(asarray(normal(4, 2, 2).astype("float32")))[0],
                       model.layer.R_l0)
    assert type(J) is type(g) and isinstance(singular_values(J[:, 0]), np.ndarray)


# Truncated backpropagation through time.


class Tagger(Module):
    def __init__(self, kind="RNN", seed=0, **options):
        self.rnn = KINDS[kind].make(2, 3, seed=seed, dtype="float64", **options)
        self.out = Linear(3, 1, seed=seed, dtype="float64")

    def forward(self, x, state=None):
        y, state = self.rnn(x, state)
        return self.out(y), state


def tag_loss(model, x, y, state):
    z, state = model(x, state)
    return mean_squared_error(z, y), state


def frozen_differences(model, x, y, k, eps=1e-6):
    "The gradient of the sum of chunk losses whose first states are held fixed."
    T, starts, state = len(x), [], None
    chunks = [slice(s, min(s + k, T)) for s in range(0, T, k)]
    with no_grad():
        for c in chunks:
            starts.append(state)
            state = tuple(a.copy() for a in map(to_host, tupled(model(x[c], state)[1])))
            state = state if len(state) > 1 else state[0]

        def value():
            return sum(float(tag_loss(model, x[c], y[c], s)[0]) * (c.stop - c.start) / T
                       for c, s in zip(chunks, starts, strict=True))
        found = []
        for p in model.parameters().values():
            for index in np.ndindex(*p.shape):
                kept = float(p.data[index])
                ends = []
                for by in (eps, -eps):
                    p.data[index] = kept + by
                    ends.append(value())
                p.data[index] = kept
                found.append((ends[0] - ends[1]) / (2 * eps))
    return np.array(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_truncated_gradient_is_what_differences_say(kind, k):
    model, x, y = Tagger(kind), normal(7, 2, 2), normal(7, 2, 1, seed=1)
    got = truncated_gradient(model, tag_loss, x, y, k)
    expected = frozen_differences(model, x, y, k)
    assert np.abs(got - expected).max() < 1e-7


def test_chunks_as_long_as_the_sequence_are_exact():
    model, x, y = Tagger(), normal(7, 2, 2), normal(7, 2, 1, seed=1)
    exact = truncated_gradient(model, tag_loss, x, y)
    tag_loss(model, x, y, None)[0].backward()
    full = np.concatenate([p.grad.ravel() for p in model.parameters().values()])
    assert np.abs(exact - full).max() < 1e-14
    assert all(p.grad is not None for p in model.parameters().values())
    found = gradient_error(model, tag_loss, x, y, [1, 7, 100])
    assert found[1].error < 1e-12 and found[2].error < 1e-12 and abs(found[2].cosine - 1) < 1e-12
    g = truncated_gradient(model, tag_loss, x, y, 1)
    assert np.isclose(found[0].error, np.linalg.norm(g - exact) / np.linalg.norm(exact))
    assert np.isclose(found[0].cosine, g @ exact / np.linalg.norm(g) / np.linalg.norm(exact))
    assert found[0].error > 0.05  # there is something to lose
    with pytest.raises(ValueError, match="steps must be an integer of 1 or more, got 0"):
        truncated_gradient(model, tag_loss, x, y, 0)
    with pytest.raises(ValueError, match="nothing to compare with"):
        gradient_error(model, lambda m, x, y, s: ((m(x)[0] * 0.0).sum(), s), x, y, [1])


def test_a_tied_parameter_counts_once():
    model = Tagger()
    model.again = model.out
    x, y = normal(4, 2, 2), normal(4, 2, 1)
    assert len(truncated_gradient(model, tag_loss, x, y)) == sum(
        p.size for p in Tagger().parameters().values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_carries_its_state_and_a_new_pass_begins_without_one(kind):
    model = Tagger(kind)
    x, y = normal(23, 2), normal(23, 1, seed=1)
    chunks = Chunks(Streams(x, target=y, batch_size=2, steps=4))
    assert len(chunks) == 3 and chunks.examples == 22
    with no_grad():
        whole = np.stack([x[:11], x[11:22]], axis=1), np.stack([y[:11], y[11:22]], axis=1)
        expected = float(tag_loss(model, *whole, None)[0])
    for _ in range(2):  # a second pass does not begin where the first one ended
        assert np.isclose(evaluate(model, chunks, carried(tag_loss)), expected, rtol=1e-12)


def test_the_tape_is_cut_and_validation_has_a_slip_of_its_own():
    model, seen = Tagger("LSTM"), []

    def noted(model, x, y, state):
        seen.append((model.training, None if state is None else type(state[0]) is np.ndarray))
        return tag_loss(model, x, y, state)

    x, y = normal(24, 2), normal(24, 1, seed=1)
    chunks = Chunks(Streams(x, target=y, batch_size=2, steps=4))
    fit(model, chunks, carried(noted), epochs=2, validation=chunks, progress=False)
    one_pass = [None, True, True]  # arrays, which carry no tape
    assert seen == [(mode, s) for mode in (True, False) * 2 for s in one_pass]


def test_training_needs_the_carried_state():
    "Was the last signal, up to 12 steps ago, +1 or -1? Chunks of 2 steps can learn it."
    rng = np.random.default_rng(0)
    signs, x = rng.choice([-1.0, 1.0], 400), np.zeros((2400, 2))
    x[::6, 0] = signs
    y = np.repeat(signs, 6)[:, None]
    losses = {}
    for name, f in (("carried", carried(tag_loss)),
                    ("dropped", lambda m, x, y, carry: tag_loss(m, x, y, None)[0])):
        model = Tagger(seed=1)
        chunks = Chunks(Streams(x, target=y, batch_size=8, steps=2))
        losses[name] = fit(model, chunks, f, epochs=6, learning_rate=0.02, progress=False).loss[-1]
    assert losses["carried"] < 0.05
    assert losses["dropped"] > 0.5  # two of three chunks hold no signal: at best 2/3 is left


def test_what_cannot_be_carried_is_refused(tmp_path):
    with pytest.raises(TypeError, match="Chunks takes Streams, .* got Batches"):
        Chunks(Batches(np.zeros((4, 2)), batch_size=2))
    chunks = Chunks(Streams(normal(9, 2), target=normal(9, 1), batch_size=2, steps=2))
    with pytest.raises(TypeError, match="returns two things, .* got a Tensor"):
        fit(Tagger(), chunks, carried(lambda m, x, y, s: tag_loss(m, x, y, s)[0]), epochs=1,
            progress=False)
    with pytest.raises(ValueError, match="checkpoint of fit does not keep"):
        fit(Tagger(), chunks, carried(tag_loss), epochs=1, progress=False,
            checkpoint=tmp_path / "a.safetensors")
    assert Carry().state is None


def test_truncation_on_every_device(backend):
    model, x, y = Tagger(), asarray(normal(6, 2, 2)), asarray(normal(6, 2, 1, seed=1))
    found = gradient_error(model, tag_loss, x, y, [2, 6])
    assert found[0].error > found[1].error and found[1].error < 1e-12
    chunks = Chunks(Streams(normal(24, 2), target=normal(24, 1), batch_size=2, steps=4))
    fit(model, chunks, carried(tag_loss), epochs=1, progress=False)


# The two tasks.


@pytest.mark.parametrize("T", [2, 3, 10, 51])
def test_the_adding_problem_is_what_it_says(T):
    x, y = adding_problem(300, T, seed=1)
    assert x.shape == (T, 300, 2) and y.shape == (300, 1) and x.dtype == y.dtype == "float32"
    numbers, marks = x[:, :, 0], x[:, :, 1]
    assert ((numbers >= 0) & (numbers <= 1)).all() and set(np.unique(marks)) <= {0, 1}
    assert (marks[:T // 2].sum(0) == 1).all() and (marks[T // 2:].sum(0) == 1).all()
    assert np.allclose((numbers * marks).sum(0), y[:, 0], atol=1e-6)
    if T > 2:
        assert (marks.sum(1) > 0).all()  # every step may be marked
    again, other = adding_problem(300, T, seed=1), adding_problem(300, T, seed=2)
    assert (again[0] == x).all() and (other[0] != x).any()


def test_the_floor_of_the_adding_problem():
    _, y = adding_problem(400_000, 2, seed=0)
    squares = (y.astype("float64") - 1) ** 2
    assert abs(squares.mean() - adding_floor()) < 4 * squares.std() / len(y) ** 0.5
    assert adding_floor() == 1 / 6
    constants = [((y - c) ** 2).mean() for c in (0.9, 1.0, 1.1)]
    assert np.argmin(constants) == 1
    for T, words in ((1, "T of 2 or more steps, got 1"), (0, "T must be an integer")):
        with pytest.raises(ValueError, match=words):
            adding_problem(5, T, seed=0)


@pytest.mark.parametrize(("delay", "symbols", "length"), [(1, 8, 10), (30, 8, 10), (7, 3, 2)])
def test_copy_memory_is_what_it_says(delay, symbols, length):
    x, y = copy_memory(500, delay, symbols=symbols, length=length, seed=1)
    T = delay + 2 * length
    assert x.shape == y.shape == (T, 500) and x.dtype == y.dtype == "int64"
    assert (y[-length:] == x[:length]).all() and (y[:-length] == symbols).all()
    assert x[:length].max() == symbols - 1 and x[:length].min() == 0
    signal = np.argwhere(x == symbols + 1)
    assert len(signal) == 500 and (signal[:, 0] == T - length - 1).all()
    rest = np.delete(x, [*range(length), T - length - 1], axis=0)
    assert (rest == symbols).all()


@pytest.mark.parametrize(("delay", "symbols", "length"), [(1, 8, 10), (100, 8, 10), (7, 3, 2)])
def test_the_floor_of_copy_memory(delay, symbols, length):
    x, y = copy_memory(50, delay, symbols=symbols, length=length, seed=1)
    logits = np.full((*y.shape, symbols + 1), -50.0)
    logits[:-length, :, symbols] = 0  # certain of the blanks
    logits[-length:, :, :symbols] = 0  # any of the symbols
    measured = float(cross_entropy(logits, y))
    floor = copy_floor(delay, symbols=symbols, length=length)
    assert abs(measured - floor) < 1e-9
    if (symbols, length) == (8, 10):
        assert np.isclose(floor, 10 * np.log(8) / (delay + 20))


def test_the_examples_in_the_docstrings():
    found = doctest.testmod(bptt)
    assert found.attempted >= 2 and not found.failed
