"""Cells beside plain NumPy: their equations, names, starts, traces and what `explain` says."""

import itertools

import numpy as np
import pytest
from under_law import KINDS, as_list, case, error, placed

from rnntext.autograd import Tensor, no_grad
from rnntext.backend import to_device, to_host
from rnntext.gated import (
    GRU,
    LSTM,
    CoupledLSTM,
    GRUCell,
    LSTMCell,
    PeepholeLSTM,
    gru,
    gru_step,
    lstm,
    lstm_step,
)
from rnntext.rnn import (
    RNN,
    Cell,
    ElmanCell,
    Recurrent,
    orthogonal,
    rnn,
    rnn_step,
    stepwise,
    use_implementation,
)

of_kinds = pytest.mark.parametrize("kind", KINDS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gate(x, h, p, k, H):
    "Block k of x W + h R + b."
    block = slice(k * H, (k + 1) * H)
    return x @ p["W"][:, block] + h @ p["R"][:, block] + p["b"][block]


def elman(f):
    def step(x, state, p, H):
        h = f(gate(x, state[0], p, 0, H))
        return {}, (h,)
    return step


def long_short_term(x, state, p, H):
    (h, c), (p_i, p_f, p_o) = state, p["p"].reshape(3, H) if "p" in p else (0, 0, 0)
    i = sigmoid(gate(x, h, p, 0, H) + p_i * c)
    f = sigmoid(gate(x, h, p, 1, H) + p_f * c)
    g = np.tanh(gate(x, h, p, 2, H))
    c = f * c + i * g
    o = sigmoid(gate(x, h, p, 3, H) + p_o * c)
    h = o * np.tanh(c)
    return dict(i=i, f=f, g=g, o=o), (h @ p["W_hr"] if "W_hr" in p else h, c)


def coupled(x, state, p, H):
    h, c = state
    f, g, o = sigmoid(gate(x, h, p, 0, H)), np.tanh(gate(x, h, p, 1, H)), gate(x, h, p, 2, H)
    c = f * c + (1 - f) * g
    h = sigmoid(o) * np.tanh(c)
    return dict(i=1 - f, f=f, g=g, o=sigmoid(o)), (h @ p["W_hr"] if "W_hr" in p else h, c)


def gated_unit(x, state, p, H):
    h, n_block = state[0], slice(2 * H, 3 * H)
    r, z = sigmoid(gate(x, h, p, 0, H)), sigmoid(gate(x, h, p, 1, H))
    R = p["R"][:, n_block]
    inner = r * (h @ R + p["b_hn"]) if "b_hn" in p else (r * h) @ R
    n = np.tanh(x @ p["W"][:, n_block] + p["b"][n_block] + inner)
    return dict(r=r, z=z, n=n), ((1 - z) * n + z * h,)


CELLS = {  # name: kind, options, the step in plain NumPy, its parameters
    "RNN": ("RNN", {}, elman(np.tanh), "W R b"),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}, elman(lambda a: np.maximum(a, 0)), "W R b"),
    "RNN identity": ("RNN", {"nonlinearity": "identity"}, elman(lambda a: a), "W R b"),
    "LSTM": ("LSTM", {}, long_short_term, "W R b"),
    "projected LSTM": ("LSTM", {"proj_size": 2}, long_short_term, "W R b W_hr"),
    "peephole LSTM": ("LSTM", {"cell": PeepholeLSTM}, long_short_term, "W R b p"),
    "projected peephole LSTM": ("LSTM", {"cell": PeepholeLSTM, "proj_size": 2}, long_short_term,
                                "W R b p W_hr"),
    "coupled LSTM": ("LSTM", {"cell": CoupledLSTM}, coupled, "W R b"),
    "projected coupled LSTM": ("LSTM", {"cell": CoupledLSTM, "proj_size": 2}, coupled,
                               "W R b W_hr"),
    "GRU": ("GRU", {}, gated_unit, "W R b b_hn"),
    "GRU, reset before": ("GRU", {"reset_after": False}, gated_unit, "W R b"),
}
of_cells = pytest.mark.parametrize("name", CELLS)


def by_hand(name, layer, x, state):
    "Outputs, last states and everything on the way, of one layer in one direction."
    values, found = layer.state_dict(), []
    p = {k.removesuffix("_l0"): v for k, v in values.items()}
    state = tuple(s[0] for s in state)
    for x_t in x:
        gates, state = CELLS[name][2](x_t, state, p, layer.hidden_size)
        found.append(gates | dict(zip(layer.states, state, strict=True)))
    return {k: np.stack([f[k] for f in found]) for k in found[0]}, state


def drawn(name, **options):
    kind, own, _, _ = CELLS[name]
    c = case(kind, state="array", init="pytorch", **own, **options)
    layer = c.layer(2, 3)
    x, state, lengths, _ = c.inputs(layer, T=6, B=4)
    return layer, x, state, lengths


# --- the equations

@of_cells
def test_a_layer_computes_its_equations(name, backend):
    layer, x, state, _ = drawn(name)
    expected, last = by_hand(name, layer, x, state)
    for form in (None, "readable", "no_grad", "step"):
        if form == "step":
            s, ys = placed(state), []
            for x_t in to_device(x):
                y, s = layer.step(x_t, s)
                ys.append(to_host(y))
            y, end = np.stack(ys), s
        elif form == "no_grad":
            with no_grad():
                y, end = layer(to_device(x), placed(state))
        elif form == "readable":
            with use_implementation("readable"):
                y, end = layer(to_device(x), placed(state))
        else:
            y, end = layer(to_device(x), placed(state))
        assert error(to_host(y), expected["h"]) < 1e-12
        for a, b in zip(as_list(end), last, strict=True):
            assert error(to_host(a)[0], b) < 1e-12


@of_cells
def test_a_trace_shows_gates_candidates_and_states_by_name(name, backend):
    layer, x, state, _ = drawn(name)
    expected, _ = by_hand(name, layer, x, state)
    found = layer.trace(to_device(x), placed(state))
    assert found.keys() == {f"{k}_l0" for k in expected}
    for k, v in expected.items():
        assert error(to_host(found[f"{k}_l0"]), v) < 1e-12, k


@of_cells
def test_a_trace_of_layers_and_directions_is_that_of_the_layers_alone(name, backend):
    layer, x, state, lengths = drawn(name, num_layers=2, bidirectional=True, lengths="ragged")
    found = layer.trace(to_device(x), placed(state), lengths)
    y, _ = layer(to_device(x), placed(state), lengths)
    pad = np.arange(len(x))[:, None] >= np.array(lengths)
    assert not any(to_host(a)[pad].any() for a in found.values())
    values, source = layer.state_dict(), to_device(x)
    for number in range(2):
        for direction, suffix in enumerate((f"_l{number}", f"_l{number}_reverse")):
            kind, own, _, _ = CELLS[name]
            one = KINDS[kind].make(source.shape[2], 3, dtype="float64", **own)
            one.load_state_dict({k: values[k.removesuffix("_l0") + suffix]
                                 for k in one.parameters()})
            run = 2 * number + direction
            for b, n in enumerate(lengths):
                alone = to_host(source)[:n, b:b + 1]
                alone = np.ascontiguousarray(alone[::-1] if direction else alone)
                own_state = [s[run:run + 1, b:b + 1] for s in state]
                seen = one.trace(to_device(alone), placed(own_state))
                for k, v in seen.items():
                    v = to_host(v)[::-1] if direction else to_host(v)
                    together = to_host(found[k.removesuffix("_l0") + suffix])[:n, b]
                    assert error(together, v[:, 0]) < 1e-12, k
        source = to_device(np.concatenate([to_host(found[f"h_l{number}{d}"])
                                           for d in ("", "_reverse")], axis=2))
    assert error(to_host(source), to_host(y)) < 1e-12


@of_kinds
def test_a_trace_is_that_of_evaluation_and_changes_nothing(kind, backend):
    c = case(kind, num_layers=2, dropout=0.5)
    layer = c.layer()
    x = to_device(c.inputs(layer)[0])
    y = to_host(layer(x)[0])
    layer.train()
    counted = [d.calls for d in layer.dropouts]
    found = layer.trace(x)
    assert error(to_host(found["h_l1"]), y) < 1e-12
    assert [d.calls for d in layer.dropouts] == counted
    assert not any(isinstance(a, Tensor) for a in found.values())
    assert all(p.grad is None for p in layer.parameters().values())


STEPS = {"rnn": (rnn_step, rnn, 1, 1, {}), "lstm": (lstm_step, lstm, 4, 2, {}),
         "gru": (gru_step, gru, 3, 1, {"b_hn": True}), "gru before": (gru_step, gru, 3, 1, {})}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 1, 3]], ids=str)
def test_the_step_on_the_page_looped_equals_the_primitive(name, reverse, lengths, backend):
    step, primitive, n, states, more = STEPS[name]
    rng = np.random.default_rng(0)
    shapes = [(6, 3, 2), *[(3, 4)] * states, (2, 4 * n), (4, 4 * n), (4 * n,), *[(4,)] * len(more)]
    arrays = [rng.standard_normal(s) for s in shapes]
    lengths = None if lengths is None else to_device(np.array(lengths)[:, None])
    found = []
    for looped in (False, True):
        x, *rest = (Tensor(to_device(a)) for a in arrays)
        state, weights = tuple(rest[:states]), rest[states:]
        if looped:
            def one(x_t, s, weights=weights):
                new = step(x_t, *s, *weights)
                return new if isinstance(new, tuple) else (new,)
            y, end = stepwise(one, x, state, lengths, reverse=reverse)
        else:
            by_name = {"lengths": lengths} if name == "rnn" else {}
            given = [] if name == "rnn" else [*([None] if name == "gru before" else []), lengths]
            y, *end = primitive(x, *state, *weights, *given, reverse=reverse, **by_name)
        loss = (y * y).sum()
        for a in end:
            loss = loss + (a * a * a).sum()
        loss.backward()
        found.append([to_host(a) for a in (y, *end)] + [to_host(t.grad) for t in (x, *rest)])
    assert all(error(a, b) < 1e-12 for a, b in zip(*found, strict=True))


# --- names and shapes: what importers rely on

@of_cells
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("learn_state", [False, True], ids=["zeros", "learnt"])
def test_names_and_shapes(name, layers, bidirectional, learn_state, fresh_library):
    kind, options, _, parts = CELLS[name]
    layer = KINDS[kind].make(5, 3, layers, bidirectional=bidirectional, learn_state=learn_state,
                             **options)
    n, P = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind], options.get("proj_size", 3)
    n = 3 if "coupled" in name else n
    D, shapes = 1 + bidirectional, {"b": (3 * n,), "R": (P, 3 * n), "b_hn": (3,), "p": (9,),
                                    "W_hr": (3, P)}
    expected = {}
    for number, direction in itertools.product(range(layers), ["", "_reverse"][:D]):
        suffix = f"_l{number}{direction}"
        shapes["W"] = (P * D if number else 5, 3 * n)
        expected |= {k + suffix: shapes[k] for k in parts.split()}
        if learn_state:
            expected |= {f"h0{suffix}": (P,)} | ({f"c0{suffix}": (3,)} if kind == "LSTM" else {})
    assert [*layer.parameters()] == [*expected]
    assert {k: p.shape for k, p in layer.parameters().items()} == expected
    y, end = layer(np.zeros((7, 2, 5), "float32"), lengths=[7, 1])
    assert y.shape == (7, 2, D * P)
    sizes = (P, 3) if kind == "LSTM" else (P,)
    assert isinstance(end, tuple) == (kind == "LSTM")
    assert [s.shape for s in as_list(end)] == [(layers * D, 2, size) for size in sizes]


# --- where training starts

@of_cells
def test_weights_start_orthogonal_and_biases_at_zero(name, fresh_library):
    kind, options, _, _ = CELLS[name]
    H, P = 60, 20 if "proj_size" in options else 60
    options = options | ({"proj_size": P} if "proj_size" in options else {})
    layer = KINDS[kind].make(100, H, 2, bidirectional=True, learn_state=True, seed=0,
                             dtype="float64", **options)
    cell, order = options.get("cell", LSTMCell), {"RNN": "h", "GRU": "rzn"}.get(kind)
    order = order or cell.order
    for k, p in layer.state_dict().items():
        part = k.split("_l")[0]
        if part == "R":
            for R in np.split(p, len(order), axis=1):
                product = R.T @ R if P == H else R @ R.T
                assert error(product, np.eye(P)) < 1e-12
            assert len(order) == 1 or error(p[:, :H], p[:, H:2 * H]) > 0.1  # each its own
        elif part in ("W", "W_hr"):
            assert abs(p.var() * p.shape[0] - 1) < 0.1 and abs(p.mean()) < 0.1
        elif part == "b" and kind == "LSTM":
            for gate_name, b in zip(order, np.split(p, len(order)), strict=True):
                assert (b == (gate_name == "f")).all()
        else:
            assert not p.any(), k


@of_cells
def test_pytorchs_start_is_uniform(name, fresh_library):
    kind, options, _, _ = CELLS[name]
    options = options | ({"forget_bias": 0.0} if kind == "LSTM" else {})
    layer = KINDS[kind].make(50, 49, 2, init="pytorch", seed=0, **options)
    for k, p in layer.state_dict().items():
        assert np.abs(p).max() <= 1 / 7 + 1e-6, k
        assert np.abs(p).max() > 0.9 / 7 and abs(p.std() * 7 * 3**0.5 - 1) < 0.2, k


@pytest.mark.parametrize("cell", [LSTMCell, PeepholeLSTM, CoupledLSTM])
def test_forget_bias_is_added_to_one_gate_of_every_layer(cell, fresh_library):
    options = dict(num_layers=2, bidirectional=True, cell=cell, init="pytorch", seed=0,
                   dtype="float64")
    plain = LSTM(2, 3, forget_bias=0.0, **options).state_dict()
    for bias in (2, -0.5, np.float32(1.5)):
        moved = LSTM(2, 3, forget_bias=bias, **options).state_dict()
        k = cell.order.index("f")
        for name, a in plain.items():
            expected = a.copy()
            if name.startswith("b_"):
                expected[3 * k:3 * k + 3] += float(bias)
            assert (moved[name] == expected).all(), name
    assert LSTM(2, 3, seed=0).state_dict()["b_l0"].reshape(4, 3).tolist()[1] == [1.0] * 3


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (1, 1)])
def test_orthogonal_matrices_have_no_preferred_sign(shape):
    rng, small = np.random.default_rng(0), min(shape)
    found = [orthogonal(shape, rng) for _ in range(2_000)]
    for q in found[:10]:
        assert q.shape == shape
        product = q.T @ q if shape[0] >= shape[1] else q @ q.T
        assert error(product, np.eye(small)) < 1e-12
    assert np.abs(np.mean(found, axis=0)).max() < 0.1


# --- what runs, and what says so

@of_cells
def test_explain_names_what_runs_and_why(name, fresh_library):
    kind, options, _, _ = CELLS[name]
    layer, x = KINDS[kind].make(2, 3, dtype="float64", **options), np.ones((4, 2, 2))
    over_the_tape = "cell" in options or "proj_size" in options
    recorded = layer.explain(x)
    with no_grad():
        stored = layer.explain(x)
    with use_implementation("readable"):
        asked = layer.explain(x)
    assert all("on numpy" in said for said in (recorded, stored, asked))
    if over_the_tape:
        assert "over the tape" in recorded and "over the tape" not in stored
        assert all(f"{type(layer.cell).__name__} " in s and "no faster form" in s
                   for s in (recorded, stored, asked))
    else:
        module = "rnntext.rnn" if kind == "RNN" else "rnntext.gated"
        assert f"{module}:{kind.lower()}_buffered" in recorded and "arrays are numpy's" in recorded
        assert "chunks of 64" in stored and "nothing is recorded" in stored
        assert f"{module}:{kind.lower()}_readable" in asked and "asks for it" in asked


def test_explain_on_the_double(double):
    for kind, module in (("RNN", "rnn"), ("LSTM", "gated"), ("GRU", "gated")):
        said = KINDS[kind].make(2, 3).explain(to_device(np.ones((4, 2, 2), "float32")))
        assert f"on cupy: rnntext.{module}:{kind.lower()}_buffered" in said


class Decay(Cell):
    "A cell of one's own: two arrays of two sizes, in the words of `Cell`."
    states = ("y", "m")

    def sizes(self):
        return (1, self.hidden_size)

    def shapes(self, input_size):
        return {"W": (input_size, self.hidden_size), "a": (self.hidden_size,)}

    def gates(self, x, state, weights):
        return {"u": x @ weights[0]}

    def step(self, x, state, weights):
        m = state[1] * weights[1] + x @ weights[0]
        return m.sum(axis=1, keepdims=True), m


def test_a_cell_of_ones_own_gets_layers_directions_and_lengths(backend):
    layer = Recurrent(2, Decay(3), 2, bidirectional=True, seed=0, dtype="float64", init="pytorch")
    x, lengths = np.random.default_rng(0).standard_normal((5, 3, 2)), [5, 1, 3]
    y, (last, m) = layer(to_device(x), lengths=lengths)
    assert y.shape == (5, 3, 2) and last.shape == (4, 3, 1) and m.shape == (4, 3, 3)
    p, alone = layer.state_dict(), np.zeros((1, 3))
    for x_t in x[:, :1]:
        alone = alone * p["a_l0"] + x_t @ p["W_l0"]
    assert error(to_host(m)[0, 0], alone[0]) < 1e-12
    found = layer.trace(to_device(x), lengths=lengths)
    assert {"u_l0", "y_l0", "m_l1_reverse"} < set(found)
    assert "Decay" in layer.explain(to_device(x))


def test_a_subclass_of_a_fast_cell_runs_its_own_step(backend):
    class Leaky(ElmanCell):
        def step(self, x, state, weights):
            return (0.5 * state[0] + 0.5 * super().step(x, state, weights)[0],)

    class Open(LSTMCell):
        def gates(self, x, state, weights):
            found = super().gates(x, state, weights)
            return found | {"o": found["o"] * 0 + 1}

    class Slow(GRUCell):
        def gates(self, x, state, weights):
            found = super().gates(x, state, weights)
            return found | {"z": found["z"] * 0 + 0.9}

    x = to_device(np.random.default_rng(0).standard_normal((5, 3, 2)))
    for own, plain in ((Recurrent(2, Leaky(4), seed=0, dtype="float64"), RNN),
                       (LSTM(2, 4, cell=Open, seed=0, dtype="float64"), LSTM),
                       (Recurrent(2, Slow(4), seed=0, dtype="float64"), GRU)):
        other = plain(2, 4, seed=0, dtype="float64")
        other.load_state_dict(own.state_dict())
        y, stored = to_host(own(x)[0]), None
        with no_grad():
            stored = to_host(own(x)[0])
        assert error(y, stored) < 1e-12 and error(y, to_host(other(x)[0])) > 0.01
        assert "no faster form" in own.explain(x)


# --- dropout between layers

@of_kinds
def test_a_step_in_training_drops_between_layers(kind, fresh_library):
    layer = KINDS[kind].make(2, 64, num_layers=2, dropout=0.5, seed=0)
    x = np.ones((3, 2), "float32")
    first, second = (to_host(layer.step(x)[0]) for _ in range(2))
    assert error(first, second) > 0.01  # another mask
    layer.eval()
    assert (to_host(layer.step(x)[0]) == to_host(layer.step(x)[0])).all()


@of_kinds
def test_every_gap_between_layers_has_masks_of_its_own(kind, fresh_library):
    layer = KINDS[kind].make(2, 64, num_layers=3, dropout=0.5, seed=0)
    ones = np.ones((4, 3, 64), "float32")
    first, second = (to_host(d(ones)) for d in layer.dropouts)
    assert (first != second).mean() > 0.3
    other = KINDS[kind].make(2, 64, num_layers=3, dropout=0.5, seed=1)
    assert (first != to_host(other.dropouts[0](ones))).mean() > 0.3
