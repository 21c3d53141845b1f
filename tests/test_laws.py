"""Laws 1 to 6 of every recurrent layer: gradients, padding, streams, forms, seeds."""

import numpy as np
import pytest
from under_law import (
    CASES,
    KINDS,
    ONE_WAY,
    RAGGED,
    arrivals,
    as_list,
    assert_close,
    assert_same_bits,
    case,
    error,
    placed,
    results,
    stepwise,
    tolerance,
    width,
)

from rnntext.autograd import Tensor, detach, no_grad
from rnntext.backend import concatenate, fresh, to_device, to_host
from rnntext.rnn import rnn, rnn_step, stepwise as the_loop, use_implementation

of_cases = pytest.mark.parametrize("case_", CASES, ids=str)
of_ragged = pytest.mark.parametrize("case_", RAGGED, ids=str)
of_one_way = pytest.mark.parametrize("case_", ONE_WAY, ids=str)
of_kinds = pytest.mark.parametrize("kind", KINDS)


# --- law 1: gradients are those of central differences

def number(layer, x, state, lengths, grads) -> float:
    "The inner product of all outputs with `grads`; nothing is recorded."
    with no_grad():
        y, end = layer(to_device(x), placed(state), lengths)
    return sum(float((to_host(o) * g).sum())
               for o, g in zip([y, *as_list(end)], grads, strict=True))


def differences(f, a: np.ndarray, put, step: float = 1e-5) -> np.ndarray:
    found = np.zeros(a.size)
    for i in range(a.size):
        moved = [a.ravel().copy() for _ in range(2)]
        for b, sign in zip(moved, (1, -1), strict=True):
            b[i] += sign * step
        up, down = (f(*put(b.reshape(a.shape))) for b in moved)
        found[i] = (up - down) / (2 * step)
    return found.reshape(a.shape)


def along(f, a: np.ndarray, put, step: float = 1e-5) -> tuple[np.ndarray, float]:
    "A random direction and the derivative along it."
    v = np.random.default_rng(1).standard_normal(a.shape)
    return v, (f(*put(a + step * v)) - f(*put(a - step * v))) / (2 * step)


def check_gradients(layer, x, state, lengths, grads, directional: bool) -> None:
    got = results(layer, x, state, lengths, grads)

    def f(x, state, values):
        layer.load_state_dict(values)
        return number(layer, x, state, lengths, grads)

    values, errors = layer.state_dict(), {}
    places = {"dx": (x, lambda a: (a, state, values))}
    for i, name in enumerate(layer.states if state else ()):
        places[f"d{name}"] = (state[i], lambda a, i=i: (
            x, [a if j == i else s for j, s in enumerate(state)], values))
    for name, p in values.items():
        places[f"d{name}"] = (p, lambda a, name=name: (x, state, {**values, name: a}))
    for name, (a, put) in places.items():
        if directional:
            v, measured = along(f, a, put)
            scale = np.abs(got[name]).max() or 1.0  # a learnt state that was not used
            errors[name] = abs((got[name] * v).sum() - measured) / scale
        else:
            errors[name] = error(got[name], differences(f, a, put))
    assert len(errors) == 1 + len(state or ()) + len(values)
    assert all(e < 1e-6 for e in errors.values()), errors  # max() would lose a NaN


@of_cases
def test_law1_gradients_are_central_differences(case_, backend):
    layer = case_.layer(dtype="float64")
    check_gradients(layer, *case_.smooth_inputs(layer), directional=backend != "numpy")


EXTREMES = [dict(T=1), dict(B=1), dict(T=1, B=1), dict(T=4, B=3, lengths=[1, 1, 1]),
            dict(T=4, B=2, lengths=[1, 4])]


@of_kinds
@pytest.mark.parametrize("sizes", EXTREMES, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 1)], ids=lambda s: f"I={s[0]},H={s[1]}")
def test_law1_gradients_at_the_smallest_sizes(kind, sizes, size, fresh_library):
    c = case(kind, bidirectional=True, num_layers=2, state="tensor")
    layer = c.layer(*size)
    check_gradients(layer, *c.inputs(layer, **sizes), directional=False)


@of_kinds
@pytest.mark.parametrize("T", [120, 2000])
def test_law1_gradients_of_long_sequences_along_a_direction(kind, T, fresh_library):
    c = case(kind, bidirectional=True, state="tensor")
    layer = c.layer()
    check_gradients(layer, *c.inputs(layer, T=T, lengths=[T, T - 1, T // 3]), directional=True)


# --- law 2: padding is not there

JUNK = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "huge": 1e30}


def padding(lengths, T) -> np.ndarray:
    return np.arange(T)[:, None] >= np.array(lengths)


@of_ragged
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
@pytest.mark.parametrize("form", ["fast", "readable"])
def test_law2_what_stands_in_the_padding_changes_no_bit(case_, junk, form, backend):
    layer = case_.layer()
    x, state, lengths, grads = case_.inputs(layer)
    pad = padding(lengths, len(x))
    x2, dy2 = x.copy(), grads[0].copy()
    x2[pad] = dy2[pad] = junk
    call = readable(layer) if form == "readable" else None
    assert_same_bits(results(layer, x2, state, lengths, [dy2, *grads[1:]], call),
                     results(layer, x, state, lengths, grads, call))
    with no_grad():
        y, end = layer(to_device(x), placed(state), lengths)
        y2, end2 = layer(to_device(x2), placed(state), lengths)
    for a, b in zip([y, *as_list(end)], [y2, *as_list(end2)], strict=True):
        assert to_host(a).tobytes() == to_host(b).tobytes()


@of_ragged
def test_law2_outputs_and_gradients_are_zero_in_the_padding(case_, backend):
    layer = case_.layer()
    x, state, lengths, grads = case_.inputs(layer)
    found, pad = results(layer, x, state, lengths, grads), padding(lengths, len(x))
    assert not found["y"][pad].any() and found["y"][~pad].any()
    assert not found["dx"][pad].any() and found["dx"][~pad].any()
    with no_grad():
        assert not to_host(layer(to_device(x), None, lengths)[0])[pad].any()


@of_ragged
def test_law2_the_last_state_is_that_of_the_last_real_step(case_, backend):
    layer = case_.layer()
    x, state, lengths, grads = case_.inputs(layer)
    found, H, D = results(layer, x, state, lengths, grads), width(layer), layer.directions
    h = found["last h"][-D:]  # of the last layer, whose outputs are y
    for b, n in enumerate(lengths):
        assert (h[0, b] == found["y"][n - 1, b, :H]).all()
        if D == 2:
            assert (h[1, b] == found["y"][0, b, H:]).all()


@of_ragged
def test_law2_every_sequence_as_if_it_ran_alone(case_, backend):
    layer = case_.layer()
    x, state, lengths, grads = case_.inputs(layer)
    found = results(layer, x, state, lengths, grads)
    total = {k: 0.0 for k in found if k.startswith("d") and k[1:] in layer.parameters()}
    for b, n in enumerate(lengths):
        one = slice(b, b + 1)
        alone = results(layer, x[:n, one], state and [s[:, one] for s in state], None,
                        [grads[0][:n, one], *(g[:, one] for g in grads[1:])])
        same = {k: v[:n, one] if k in ("y", "dx") else v[:, one]
                for k, v in found.items() if k not in total}
        assert_close({k: alone[k] for k in same}, same, 1e-6)
        total = {k: v + alone[k] for k, v in total.items()}
    assert_close({k: found[k] for k in total}, total, 1e-6)


@of_ragged
def test_law2_longer_padding_changes_nothing(case_, backend):
    layer = case_.layer()
    x, state, lengths, grads = case_.inputs(layer)
    T, longer = len(x), [(0, 7), (0, 0), (0, 0)]
    found = results(layer, x, state, lengths, grads)
    more = results(layer, np.pad(x, longer), state, lengths,
                   [np.pad(grads[0], longer, constant_values=2.0), *grads[1:]])
    assert not more["y"][T:].any() and not more["dx"][T:].any()
    more |= {k: more[k][:T] for k in ("y", "dx")}
    assert_close(more, found, 1e-6)


@of_ragged
def test_law2_the_order_in_the_batch_does_not_matter(case_, backend):
    layer, order = case_.layer(), np.array([2, 0, 1])
    x, state, lengths, grads = case_.inputs(layer)
    found = results(layer, x, state, lengths, grads)
    other = results(layer, x[:, order], state and [s[:, order] for s in state],
                    [lengths[i] for i in order], [g[:, order] for g in grads])
    parameters = {f"d{k}" for k in layer.parameters()}
    assert_close(other, {k: v if k in parameters else v[:, order] for k, v in found.items()},
                 1e-6)


@of_kinds
def test_law2_the_backward_direction_starts_at_the_last_real_step(kind, backend):
    c = case(kind, bidirectional=True, lengths="ragged")
    both = c.layer()
    x, _, lengths, _ = c.inputs(both)
    one = KINDS[kind].make(2, 3, dtype="float64")
    one.load_state_dict({k: both.state_dict()[f"{k}_reverse"] for k in one.parameters()})
    y = to_host(both(to_device(x), None, lengths)[0])
    for b, n in enumerate(lengths):
        flipped = np.ascontiguousarray(x[:n, b:b + 1][::-1])
        alone = to_host(one(to_device(flipped))[0])[::-1]
        assert error(alone[:, 0], y[:n, b, 3:]) < 1e-12


# --- law 3: a stream equals the whole

@of_one_way
@pytest.mark.parametrize("recording", [True, False], ids=["recorded", "no_grad"])
def test_law3_steps_equal_the_whole_sequence(case_, recording, backend):
    layer = case_.layer()
    x, state, _, _ = case_.inputs(layer, T=70)
    with no_grad():
        y, end = layer(to_device(x), placed(state))
    s, ys = placed(state), []
    for x_t in to_device(x):
        if recording:
            y_t, s = layer.step(x_t, detach(s))
        else:
            with no_grad():
                y_t, s = layer.step(x_t, s)
        ys.append(to_host(y_t))
    assert error(np.stack(ys), to_host(y)) < tolerance(layer)
    for a, b in zip(as_list(s), as_list(end), strict=True):
        assert error(to_host(a), to_host(b)) < tolerance(layer)


@of_one_way
@pytest.mark.parametrize("cuts", [[1, 2, 5], [64, 65, 129]], ids=str)
def test_law3_chunks_with_the_state_passed_on_equal_the_whole(case_, cuts, backend):
    layer = case_.layer()
    x, state, _, grads = case_.inputs(layer, T=cuts[-1] + 3)

    def in_chunks(x, state, lengths):
        ys = []
        for a, b in zip([0, *cuts], [*cuts, len(x)], strict=True):
            y, state = layer(x[a:b], state)
            ys.append(y)
        return concatenate(ys), state

    assert_close(results(layer, x, state, None, grads, in_chunks),
                 results(layer, x, state, None, grads), 10 * tolerance(layer))
    with no_grad():
        (y, end), (y2, end2) = (f(to_device(x), placed(state), None) for f in (in_chunks, layer))
    for a, b in zip([y, *as_list(end)], [y2, *as_list(end2)], strict=True):
        assert error(to_host(a), to_host(b)) < tolerance(layer)


@of_kinds
def test_law3_dropout_acts_in_training_only(kind, backend):
    c = case(kind, num_layers=2, dropout=0.5)
    layer = c.layer()
    x = to_device(c.inputs(layer)[0])
    y = to_host(layer(x)[0])
    assert (to_host(layer(x)[0]) == y).all()
    layer.train()
    first, second = (to_host(layer(x)[0]) for _ in range(2))
    assert error(first, y) > 0.01 and error(first, second) > 0.01
    with no_grad():
        assert error(to_host(layer(x)[0]), y) > 0.01
    assert (to_host(layer.eval()(x)[0]) == y).all()


# --- law 5: every form of a recurrence computes the same

def readable(layer):
    def call(x, state, lengths):
        with use_implementation("readable"):
            return layer(x, state, lengths)
    return call


@of_cases
def test_law5_fast_equals_readable_equals_stepwise(case_, backend):
    layer = case_.layer()
    given = case_.inputs(layer, T=9)
    fast, limit = results(layer, *given), tolerance(layer)
    assert_close(results(layer, *given, call=readable(layer)), fast, limit)
    assert_close(results(layer, *given, call=lambda *a: stepwise(layer, *a)), fast, limit)


@of_cases
@pytest.mark.parametrize("T", [1, 63, 64, 65, 128, 130])
def test_law5_inference_equals_the_recorded_form(case_, T, fresh_library):
    layer = case_.layer()
    x, state, lengths, _ = case_.inputs(layer, T=T)
    recorded = layer(x, placed(state), lengths)
    with no_grad():
        stored = layer(x, placed(state), lengths)
    traced = layer.trace(x, placed(state), lengths)
    for a, b in zip(recorded, stored, strict=True):
        for c, d in zip(as_list(a), as_list(b), strict=True):
            assert error(to_host(c), to_host(d)) < tolerance(layer)
    top = [v for k, v in traced.items() if k.startswith(f"h_l{layer.num_layers - 1}")]
    assert error(np.concatenate(top, axis=2), to_host(recorded[0])) < tolerance(layer)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 1, 3]])
def test_law5_the_loop_on_the_page_equals_the_primitive(nonlinearity, reverse, lengths, backend):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in ((6, 3, 2), (3, 4), (2, 4), (4, 4), (4,))]
    dy, dh = rng.standard_normal((6, 3, 4)), rng.standard_normal((3, 4))
    if lengths:
        arrays[0][padding(lengths, 6)] = dy[padding(lengths, 6)] = np.nan
    n = None if lengths is None else to_device(np.array(lengths)[:, None])
    found = []
    def loop(x, h, W, R, b, lengths, nonlinearity, reverse):
        y, (h,) = the_loop(lambda x_t, s: (rnn_step(x_t, *s, W, R, b, nonlinearity),), x, (h,),
                           lengths, reverse=reverse)
        return y, h
    for f in (rnn, loop):
        tensors = [Tensor(to_device(a)) for a in arrays]
        y, h = f(*tensors, n, nonlinearity=nonlinearity, reverse=reverse)
        arrivals(y, h, grads=[to_device(dy), to_device(dh)]).backward()
        found.append({str(i): to_host(a) for i, a in
                      enumerate([y, h, *(t.grad for t in tensors)])})
    assert_close(*found, 1e-12)


# --- law 6: the same seed gives the same bits

@of_cases
def test_law6_a_call_repeats_bit_for_bit(case_, fresh_library):
    runs = []
    for _ in range(2):
        fresh(seed=0)
        layer = case_.layer().train()
        runs.append(results(layer, *case_.inputs(layer)))
    assert_same_bits(*runs)


@of_kinds
def test_law6_an_integer_seed_does_not_depend_on_the_order_of_construction(kind, fresh_library):
    make = KINDS[kind].make

    def built(seed):
        layer = make(2, 3, num_layers=2, bidirectional=True, dropout=0.5, seed=seed)
        y = layer(np.ones((4, 2, 2), "float32"))[0]  # with its dropout masks
        return {**layer.state_dict(), "y": to_host(y)}
    first, _, other = built(7), built(None), built(8)
    fresh(seed=5)
    make(4, 4)
    assert_same_bits(built(7), first)
    assert all((first[k] != other[k]).any() for k in first if not k.startswith("b"))


@of_kinds
def test_law6_layers_without_a_seed_differ_and_a_rerun_repeats(kind, fresh_library):
    def two():
        fresh(seed=3)
        return [KINDS[kind].make(2, 3).state_dict() for _ in range(2)]
    (a, b), (c, d) = two(), two()
    assert_same_bits(a, c)
    assert_same_bits(b, d)
    assert (a["W_l0"] != b["W_l0"]).all() and (a["R_l0"] != b["R_l0"]).any()
