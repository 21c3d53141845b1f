"""What a call gives and keeps is its own: memory, gradients, tapes, threads, parameters."""

import contextlib
import copy
import threading

import numpy as np
import pytest
from under_law import (
    CASES,
    KINDS,
    ONE_WAY,
    arrivals,
    as_list,
    assert_close,
    assert_same_bits,
    case,
    error,
    placed,
    results,
    state_shapes,
    tolerance,
)

from rnntext.autograd import TapeUsedError, Tensor, detach, is_recording, no_grad
from rnntext.backend import concatenate, stack, to_device, to_host, where
from rnntext.learn import Adam, Module, flatten
from rnntext.rnn import RNN, use_implementation

of_cases = pytest.mark.parametrize("case_", CASES, ids=str)
of_one_way = pytest.mark.parametrize("case_", ONE_WAY, ids=str)
of_kinds = pytest.mark.parametrize("kind", KINDS)
of_forms = pytest.mark.parametrize("form", ["numpy", "readable"])
pytestmark = pytest.mark.usefixtures("fresh_library")


def gradients(layer) -> dict:
    "The gradients of all parameters; 0 for a learnt state in whose place another was given."
    return {k: np.zeros(p.shape) if p.grad is None else np.array(p.grad)
            for k, p in layer.parameters().items()}


def outputs(layer, x, state, lengths) -> list:
    y, end = layer(x, state, lengths)
    return [y, *as_list(end)]


# --- memory

@of_cases
@pytest.mark.parametrize("recording", [True, False], ids=["recorded", "no_grad"])
def test_nothing_returned_shares_memory_with_anything_given(case_, recording):
    layer = case_.layer()
    x, state, lengths, grads = case_.inputs(layer, T=4)
    x, given = Tensor(x), placed(state, tensors=True)
    with contextlib.nullcontext() if recording else no_grad():
        given_back = outputs(layer, x, given, lengths)
    if recording:
        arrivals(*given_back, grads=grads).backward()
    owned = {"x": x.data} | {k: p.data for k, p in layer.parameters().items()}
    owned |= {f"state {i}": s.data for i, s in enumerate(as_list(given)) if s is not None}
    owned |= {f"output {i}": r.data for i, r in enumerate(given_back)}
    owned |= {f"gradient given {i}": g for i, g in enumerate(grads)}
    if recording:
        owned |= {f"d{k}": p.grad for k, p in layer.parameters().items()} | {"dx": x.grad}
    names = list(owned)
    shared = [(a, b) for i, a in enumerate(names) for b in names[i + 1:]
              if np.shares_memory(owned[a], owned[b])]
    assert not shared


@of_one_way
@pytest.mark.parametrize("recording", [True, False], ids=["recorded", "no_grad"])
def test_a_step_returns_memory_of_its_own(case_, recording):
    layer = case_.layer()
    x, state, _, _ = case_.inputs(layer)
    given = placed(state, tensors=True)
    with contextlib.nullcontext() if recording else no_grad():
        first, between = layer.step(x[0], given)
        second, end = layer.step(x[1], between)
    owned = [x, *(p.data for p in layer.parameters().values())]
    owned += [a.data for a in [first, second, *as_list(between), *as_list(end), *as_list(given)]
              if a is not None]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(owned) for b in owned[i + 1:])


@of_cases
@of_forms
def test_outputs_changed_in_place_change_no_gradient(case_, form):
    layer = case_.layer()
    given = case_.inputs(layer)
    expected = results(layer, *given)

    def spoiled(x, state, lengths):
        with use_implementation(form):
            y, end = layer(x, state, lengths)
        kept = [a.data.copy() for a in [y, *as_list(end)]]
        for a in [y, *as_list(end)]:
            a.data[...] = np.nan
        spoiled.kept = kept
        return y, end

    found = results(layer, *given, call=spoiled)
    named = [k for k in found if k == "y" or k.startswith("last ")]
    found |= dict(zip(named, spoiled.kept, strict=True))
    assert_close(found, expected, tolerance(layer))


@of_cases
@of_forms
def test_a_layer_called_twice_before_both_backwards(case_, form):
    layer = case_.layer()
    first, second = case_.inputs(layer, T=5), case_.inputs(layer, T=7, B=2, seed=1)
    alone = [results(layer, *given) for given in (first, second)]
    layer.zero_grad()
    with use_implementation(form):
        taped = [outputs(layer, x, placed(state), n) for x, state, n, _ in (first, second)]
    for given, outs in ((second, taped[1]), (first, taped[0])):
        arrivals(*outs, grads=given[3]).backward()
    total = {k: alone[0][f"d{k}"] + alone[1][f"d{k}"] for k in layer.parameters()}
    assert_close(gradients(layer), total, tolerance(layer))


@of_cases
def test_inference_between_forward_and_backward_changes_nothing(case_):
    layer = case_.layer()
    given = case_.inputs(layer)

    def interrupted(x, state, lengths):
        found = layer(x, state, lengths)
        with no_grad():
            layer(to_device(-2 * given[0]), None, lengths)
        layer.trace(to_device(3 * given[0]))
        return found

    assert_same_bits(results(layer, *given, call=interrupted), results(layer, *given))


@of_kinds
def test_parameters_are_copies_of_what_init_gives(kind):
    given = {}

    def init(name, shape, rng):
        return given.setdefault((name, shape), np.full(shape, 0.1, "float32"))

    layer = KINDS[kind].make(3, 3, num_layers=2, bidirectional=True, init=init, dtype="float32")
    assert len(given) < len(layer.parameters())
    arrays = [*given.values(), *(p.data for p in layer.parameters().values())]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[i + 1:])
    one = KINDS[kind].make(3, 3, init=lambda n, s, r: np.broadcast_to(np.float32(0.1), s))
    one.load_state_dict(one.state_dict())  # they can be written to


@of_kinds
def test_state_dict_is_a_copy_and_loading_copies(kind):
    layer = KINDS[kind].make(3, 5, seed=0)
    state = layer.state_dict()
    layer.W_l0.data[...] = 0
    assert state["W_l0"].any()
    layer.load_state_dict(state)
    state["W_l0"][...] = 7
    assert (layer.W_l0.data != 7).all()


# --- gradients

@of_kinds
def test_gradients_add_up_over_tapes_and_zero_grad_forgets(kind):
    c = case(kind)
    layer = c.layer()
    x, _, _, grads = c.inputs(layer)
    found = []
    for _ in range(3):
        layer(x)[0].backward(grads[0])
        found.append(gradients(layer))
    for k in layer.parameters():
        assert error(found[1][k], 2 * found[0][k]) < 1e-12
        assert error(found[2][k], 3 * found[0][k]) < 1e-12
    layer.zero_grad()
    layer(x)[0].backward(grads[0])
    assert_same_bits(gradients(layer), found[0])


@of_kinds
def test_gradients_that_are_stretched_or_transposed_become_arrays_of_their_own(kind):
    c = case(kind)
    layer = c.layer()
    x, expected = c.inputs(layer)[0], None
    sums = [lambda y: y.sum(), lambda y: (y * np.ones(())).sum(axis=(0, 1)).sum(),
            lambda y: y.transpose(2, 1, 0).reshape(-1, 1).sum(), lambda y: y.mean() * y.size,
            lambda y: y[::-1].sum(), lambda y: stack(list(y)).sum(),
            lambda y: concatenate([y[:2], y[2:]]).sum()]
    for f in sums:
        layer.zero_grad()
        f(layer(x)[0]).backward()
        found = gradients(layer)
        expected = expected or found
        assert_close(found, expected, 1e-12)
        assert all(p.grad.flags.writeable and p.grad.shape == p.shape
                   for p in layer.parameters().values())


@of_kinds
def test_gradients_have_the_type_of_their_parameters_whatever_the_loss_does(kind):
    layer = KINDS[kind].make(2, 3, seed=0, dtype="float32")
    x, h = Tensor(np.ones((4, 2, 2), "float32")), Tensor(np.ones((1, 2, 3), "float32"))
    for form in ("numpy", "readable"):
        with use_implementation(form):
            y, _ = layer(x, h) if len(layer.states) == 1 else layer(x, (h, h))
        (y * np.linspace(0, 1, y.size).reshape(y.shape)).sum().backward()  # float64
        for t in (x, h, *layer.parameters().values()):
            assert t.grad.dtype == "float32"


@of_kinds
def test_one_parameter_under_two_names_collects_both_gradients(kind):
    c = case(kind, num_layers=2)
    tied, free = (c.layer(3, 3) for _ in range(2))
    x, _, _, grads = c.inputs(tied)
    tied.R_l1 = tied.R_l0
    free.R_l1.data[...] = free.R_l0.data
    for layer in (tied, free):
        layer(x)[0].backward(grads[0])
    both = free.R_l0.grad + free.R_l1.grad
    assert error(tied.R_l0.grad, both) < 1e-12
    flat = flatten(tied)
    assert len(flat.entries) == len(tied.parameters()) - 1
    assert tied.R_l1.data is tied.R_l0.data and error(tied.R_l0.grad, both) < 1e-12
    optimiser = Adam(tied, 0.1)
    before = tied.R_l0.data.copy()
    optimiser.step()
    one_step = 0.1 * both / (np.abs(both) + 1e-8)
    assert error(tied.R_l0.data, before - one_step) < 1e-12  # not two


# --- tapes

@of_kinds
def test_a_state_with_its_tape_is_full_bptt_and_a_detached_one_is_truncated(kind):
    c = case(kind, num_layers=2)
    layer = c.layer()
    x, _, _, grads = c.inputs(layer, T=6)
    whole = results(layer, x, None, None, grads)

    def in_two(cut):
        layer.zero_grad()
        y1, state = layer(x[:3])
        y2, end = layer(x[3:], cut(state))
        arrived = [grads[0][:3], grads[0][3:], *grads[1:]]
        arrivals(y1, y2, *as_list(end), grads=arrived).backward()
        return gradients(layer)

    full, cut = in_two(lambda state: state), in_two(detach)
    assert_close(full, {k: whole[f"d{k}"] for k in full}, 1e-12)
    first = results(layer, x[:3], None, None, [grads[0][:3], *(0 * g for g in grads[1:])])
    with no_grad():
        state = as_list(layer(x[:3])[1])
    second = results(layer, x[3:], [s.data for s in state], None, [grads[0][3:], *grads[1:]])
    assert_close(cut, {k: first[f"d{k}"] + second[f"d{k}"] for k in cut}, 1e-12)
    assert error(cut["R_l0"], full["R_l0"]) > 1e-3  # there was something to cut


@of_kinds
def test_a_tape_used_up_leaves_the_gradients_as_they_were(kind):
    c = case(kind)
    layer = c.layer()
    x = c.inputs(layer)[0]
    y, state = layer(x)
    y.sum().backward()
    before = gradients(layer)
    with pytest.raises(TapeUsedError):
        layer(x, state)[0].sum().backward()
    assert_same_bits(gradients(layer), before)


@of_kinds
def test_only_what_the_loss_uses_gets_a_gradient(kind):
    c = case(kind, bidirectional=True)
    layer = c.layer()
    x = Tensor(c.inputs(layer)[0])
    y, _ = layer(x)
    y[2, :, :3].sum().backward()  # the forward direction at step 2
    assert not x.grad[3:].any() and x.grad[:3].any()
    reverse = {k: p.grad for k, p in layer.parameters().items() if k.endswith("_reverse")}
    assert all(g is None or not g.any() for g in reverse.values())


@of_kinds
def test_a_learnt_state_gets_a_gradient_only_where_it_was_used(kind):
    c = case(kind, num_layers=2, bidirectional=True, learn_state=True, lengths="ragged")
    layer = c.layer()
    x, _, lengths, grads = c.inputs(layer)
    shapes = state_shapes(layer, x.shape[1])
    learnt = {f"{n}0{s}" for n in layer.states for _, _, s in layer._runs()}
    assert learnt < set(layer.parameters())
    given = placed([np.zeros(s) for s in shapes])
    arrivals(*outputs(layer, x, given, lengths), grads=grads).backward()
    found = {k: p.grad for k, p in layer.parameters().items()}
    assert {k for k, g in found.items() if g is None} == learnt
    layer.zero_grad()
    arrivals(*outputs(layer, x, None, lengths), grads=grads).backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters().values())
    values = layer.state_dict()
    same = [np.stack([np.tile(values[f"{n}0{s}"], (len(lengths), 1)) for _, _, s in layer._runs()])
            for n in layer.states]
    by_hand = results(layer, x, same, lengths, grads)
    layer.zero_grad()
    arrivals(*outputs(layer, x, None, lengths), grads=grads).backward()
    for n in layer.states:  # one state serves the whole batch
        for run, (_, _, suffix) in enumerate(layer._runs()):
            learnt_grad = layer.parameters()[f"{n}0{suffix}"].grad
            assert error(learnt_grad, by_hand[f"d{n}"][run].sum(axis=0)) < 1e-12


@of_kinds
def test_a_learnt_initial_state_is_a_leaf(kind):
    c = case(kind)
    layer = c.layer()
    x, _, _, grads = c.inputs(layer)
    learnt = [Tensor(np.full((1, 1, 3), 0.1)) for _ in layer.states]
    wide = tuple(s + np.zeros((1, 3, 3)) for s in learnt)
    y, _ = layer(x, wide if len(wide) > 1 else wide[0])
    y.backward(grads[0])
    full = results(layer, x, [np.full((1, 3, 3), 0.1) for _ in learnt], None,
                   [grads[0], *(0 * g for g in grads[1:])])
    for s, name in zip(learnt, layer.states, strict=True):
        assert error(s.grad, full[f"d{name}"].sum(axis=1, keepdims=True)) < 1e-12


# --- parameters that move

@of_kinds
def test_loading_after_flatten_keeps_the_buffer(kind):
    layer, other = (KINDS[kind].make(2, 3, seed=s, dtype="float64") for s in (0, 1))
    optimiser = Adam(layer, 0.1)
    layer.load_state_dict(other.state_dict())
    assert optimiser.flat.in_use()
    x = np.ones((4, 2, 2))
    for m, o in ((layer, optimiser), (other, Adam(other, 0.1))):
        o.zero_grad()
        m(x)[0].sum().backward()
        o.step()
    assert_same_bits(layer.state_dict(), other.state_dict())


@of_kinds
def test_a_cast_in_the_middle_of_training_keeps_the_moments(kind):
    c = case(kind)
    moved, stayed = c.layer(), c.layer()
    x, _, _, grads = c.inputs(moved)
    optimisers = [Adam(m, 0.1) for m in (moved, stayed)]
    for dtype in ("float64", "float32", "float64", "float64"):
        moved.to(dtype=dtype)
        for m, o in zip((moved, stayed), optimisers, strict=True):
            o.zero_grad()
            dtype = m.W_l0.dtype
            m(x.astype(dtype))[0].backward(grads[0].astype(dtype))
            o.step()
    moved.to(dtype="float64")
    assert_close(moved.state_dict(), stayed.state_dict(), 1e-5)


@of_kinds
def test_a_deep_copy_shares_nothing(kind):
    layer = KINDS[kind].make(2, 3, seed=0)
    Adam(layer)
    other = copy.deepcopy(layer)
    other.load_state_dict({k: 0 * v for k, v in other.state_dict().items()})
    assert all(p.data.any() for k, p in layer.parameters().items() if not k.startswith("b"))


@of_kinds
def test_a_layer_inside_a_model_keeps_its_names(kind):
    model = Module()
    model.layers = [KINDS[kind].make(2, 3, seed=0), KINDS[kind].make(3, 3, seed=1)]
    assert {"layers.0.W_l0", "layers.1.R_l0"} <= set(model.parameters())


# --- threads and hooks

@of_kinds
def test_threads_share_a_layer_but_not_their_settings(kind):
    c = case(kind, num_layers=2, bidirectional=True, lengths="ragged")
    layer = c.layer()
    given = [c.inputs(layer, T=80, seed=s) for s in range(4)]
    expected = [np.array(layer(g[0], None, g[2])[0].data) for g in given]
    seen, failures, gate = [], [], threading.Barrier(4)

    def run(i):
        try:
            seen.append(is_recording())
            gate.wait(timeout=30)
            for _ in range(3):
                if i % 2:
                    y = layer(given[i][0], None, given[i][2])[0]
                else:
                    with no_grad():
                        y = layer(given[i][0], None, given[i][2])[0]
                assert error(y.data, expected[i]) < 1e-12
        except BaseException as failure:  # shown below, in the main thread
            failures.append(failure)

    with no_grad():
        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(timeout=60)
        assert not is_recording()  # theirs ended in between, this one has not
    assert not failures and seen == [True] * 4  # no_grad holds in its own thread


def test_tensors_in_lists_and_by_name_are_seen():
    a, b = Tensor(np.ones((2, 3))), np.zeros((2, 3))
    joined = [stack([b, a]), stack((a, b)), concatenate([b, a], axis=1),
              where(b > 0, b, a), stack([b, b, a])]
    assert all(isinstance(t, Tensor) for t in joined)
    sum((t.sum() for t in joined), start=Tensor(np.zeros(()))).backward()
    assert (a.grad == 5).all()
    with pytest.raises(TypeError):
        stack(arrays=[a, b])  # by name: refused rather than an array of objects


@of_kinds
def test_a_huge_input_saturates_and_says_nothing(kind):
    layer = KINDS[kind].make(2, 3, seed=0, dtype="float32")
    x = np.full((5, 2, 2), 1e30, "float32")
    y, _ = layer(x)
    y.sum().backward()
    assert np.isfinite(to_host(y)).all()
    assert all(np.isfinite(p.grad).all() for p in layer.parameters().values())


def test_dropout_without_a_tape_draws_the_masks_of_the_recorded_call(fresh_library):
    x = np.random.default_rng(0).standard_normal((100, 2, 3)).astype("float32")
    outputs = []
    for recorded in (True, False):
        layer = RNN(3, 4, 2, dropout=0.5, seed=0)
        with contextlib.nullcontext() if recorded else no_grad():
            outputs.append(to_host(layer(x)[0]))
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-6)
