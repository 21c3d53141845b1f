"""Law 8: on the double of CuPy, training neither waits nor copies, and its launches are counted.

The other laws run on the double too, where they stand. A double is no evidence of a GPU run.
"""

import numpy as np
import pytest
from conftest import arrays_in
from cupy_double import counting
from under_law import CASES, KINDS, case, error, results

from rnntext.autograd import Tensor, no_grad
from rnntext.backend import is_device, to_device, to_host, using
from rnntext.gated import CoupledLSTM, PeepholeLSTM
from rnntext.learn import (
    Adam,
    Batches,
    Lengths,
    Linear,
    Module,
    fit,
    mean_squared_error,
    predict,
)

of_kinds = pytest.mark.parametrize("kind", KINDS)

LAYERS = {
    # name: kind, options
    "RNN": ("RNN", {}),
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
    "GRU, reset before": ("GRU", {"reset_after": False}),
    # those that run over the tape
    "peephole LSTM": ("LSTM", {"cell": PeepholeLSTM}),
    "coupled LSTM": ("LSTM", {"cell": CoupledLSTM}),
    "projected LSTM": ("LSTM", {"proj_size": 2}),
}
of_layers = pytest.mark.parametrize("name", LAYERS)

# Launches for one more time step of one layer and direction, and for the rest of a training step
# of one layer, Linear, mean-squared error and Adam with clipping.
PER_STEP = {
    # name: (forward, backward), (the same, ragged)
    "RNN": ((3, 3), (5, 6)),
    "LSTM": ((10, 7), (14, 11)),
    "GRU": ((12, 9), (14, 12)),
    "GRU, reset before": ((12, 10), (14, 13)),
    "peephole LSTM": ((31, 53), (36, 63)),
    "coupled LSTM": ((19, 31), (24, 41)),
    "projected LSTM": ((23, 35), (28, 45)),
}
THE_REST = {"RNN": 74, "LSTM": 105, "GRU": 95, "GRU, reset before": 99,
            "peephole LSTM": 54, "coupled LSTM": 57, "projected LSTM": 57}
INFERENCE = {  # for one more time step inside a chunk: whole, ragged
    "RNN": (3, 5), "LSTM": (10, 14), "GRU": (12, 14), "GRU, reset before": (12, 14),
    "peephole LSTM": (32, 37), "coupled LSTM": (20, 25), "projected LSTM": (24, 29),
}


def layer_of(name: str, **options):
    kind, own = LAYERS[name]
    return KINDS[kind].make(2, 3, **({"seed": 1, "dtype": "float32"} | own | options))


class Forecast(Module):
    "A recurrent layer and a linear readout at every step."

    def __init__(self, name: str, **options):
        self.recurrent = layer_of(name, **options)
        width = self.recurrent.cell.sizes()[0] * self.recurrent.directions
        self.readout = Linear(width, 1, seed=2, dtype="float32")

    def forward(self, x, lengths=None):
        return self.readout(self.recurrent(x, None, lengths)[0])


def loss(model, x, target, lengths=None):
    return mean_squared_error(model(x, lengths), target)


def data(T: int, examples: int = 6):
    rng = np.random.default_rng(0)
    x, target = (rng.standard_normal((T, examples, n)).astype("float32") for n in (2, 1))
    return x, target, np.array([T, 1, 2, T - 1, T, 1][:examples])


def batches(T: int, ragged: bool, batch_size: int = 3):
    x, target, lengths = data(T)
    if ragged:
        return Batches(x, target, lengths, axes=(1, 1, 0), batch_size=batch_size,
                       lengths=(2,), seed=0)
    return Batches(x, target, axes=1, batch_size=batch_size, seed=0)


def training_step(model, optimiser, batch):
    optimiser.zero_grad()
    value = loss(model, *batch)
    value.backward()
    optimiser.step()
    return value


SHAPES = {"one": {}, "two layers": {"num_layers": 2, "dropout": 0.5},
          "both ways": {"bidirectional": True},
          "two layers both ways": {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
          "learnt states": {"learn_state": True}}


@of_layers
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("shape", SHAPES)
def test_law8_a_training_step_neither_waits_nor_copies(name, ragged, shape, double):
    model = Forecast(name, **SHAPES[shape])
    optimiser = Adam(model, clip=1.0)
    before = model.state_dict()
    for batch in batches(5, ragged):
        with counting() as traffic:
            value = training_step(model, optimiser, batch)
        assert (traffic.sync, traffic.h2d, traffic.d2h) == (0, 0, 0), traffic
        assert traffic.launch > 0 and is_device(value.data)
    optimiser.check()
    assert all((v != before[k]).any() for k, v in model.state_dict().items())


def launches(name, T, ragged, backward, **options) -> int:
    layer = layer_of(name, **options)
    x, _, lengths = data(T)
    x, given = Tensor(to_device(x)), Lengths(lengths) if ragged else None
    with counting() as traffic:
        y, _ = layer(x, None, given)
    if backward:
        dy = to_device(np.ones(y.shape, "float32"))
        with counting() as traffic:
            y.backward(dy)
    return traffic.launch


@of_layers
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=str)
def test_law8_launches_of_one_time_step_are_as_written_down(name, ragged, options, double):
    runs = 2 if options else 1
    for backward in (False, True):
        few, many = (launches(name, T, ragged, backward, **options) for T in (5, 25))
        assert (many - few) / 20 == runs * PER_STEP[name][ragged][backward]


@of_layers
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_law8_launches_of_inference_are_as_written_down(name, ragged, double):
    with no_grad():
        few, many = (launches(name, T, ragged, False) for T in (5, 25))
    assert (many - few) / 20 == INFERENCE[name][ragged]


@of_layers
def test_law8_launches_of_a_training_step_are_as_written_down(name, double):
    T = 5
    model = Forecast(name)
    optimiser = Adam(model, clip=1.0)
    batch = next(iter(batches(T, False)))
    training_step(model, optimiser, batch)
    with counting() as traffic:
        training_step(model, optimiser, batch)
    assert traffic.launch - T * sum(PER_STEP[name][False]) == THE_REST[name]


def test_law8_every_kind_is_counted():
    assert {kind for kind, _ in LAYERS.values()} == set(KINDS)


@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_law8_a_batch_moves_in_one_copy_per_array(ragged, double):
    stream, arrays = iter(batches(5, ragged)), 3 if ragged else 2
    for _ in range(2):
        with counting() as traffic:
            batch = next(stream)
        assert (traffic.h2d, traffic.d2h, traffic.sync) == (arrays, 0, 0)
        assert len(batch) == arrays and is_device(batch[0])


@of_kinds
def test_law8_lengths_in_a_list_cost_one_copy(kind, double):
    layer = KINDS[kind].make(2, 3, seed=1)
    x = to_device(data(5)[0])
    with counting() as traffic:
        layer(x, None, [5, 1, 2, 4, 5, 1])
    assert (traffic.h2d, traffic.d2h, traffic.sync) == (1, 0, 0)


@of_layers
@pytest.mark.parametrize("recording", [True, False], ids=["recorded", "no_grad"])
def test_law8_a_stream_neither_waits_nor_copies(name, recording, double):
    layer = layer_of(name, num_layers=2, dropout=0.5)
    xs = [to_device(np.ones((4, 2), "float32")) for _ in range(3)]
    state = None
    with counting() as traffic:
        for x in xs:
            if recording:
                _, state = layer.step(x, state)
            else:
                with no_grad():
                    _, state = layer.step(x, state)
    assert (traffic.sync, traffic.h2d, traffic.d2h) == (0, 0, 0)


@of_kinds
def test_law8_an_epoch_of_fit_waits_once_for_the_check_and_once_for_the_loss(kind, double):
    model, loader = Forecast(kind), batches(5, True)
    with counting() as traffic:
        history = fit(model, loader, loss, epochs=1, progress=False)
    # 2 batches of 3 arrays; the moments of Adam start as zeros on the device; `bad` is one copy
    assert traffic.h2d <= 2 * 3 + 1 and traffic.d2h == 2, traffic
    assert np.isfinite(history.loss[0])


# --- the same numbers as on the CPU

@pytest.mark.parametrize("case_", CASES, ids=str)
def test_law8_the_double_agrees_with_numpy(case_, fresh_library):
    found = []
    for place in ("numpy", "double"):
        with arrays_in(place):
            layer = case_.layer(dtype="float32").train()
            given = case_.inputs(layer)
            found.append(results(layer, *given))
    assert all(error(a, b) < 1e-5 for a, b in zip(*(f.values() for f in found), strict=True))


@of_kinds
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_law8_both_devices_agree_after_one_training_step_with_dropout(kind, ragged, fresh_library):
    found = []
    for place in ("numpy", "double"):
        with arrays_in(place):
            model = Forecast(kind, num_layers=2, dropout=0.5, bidirectional=True)
            optimiser = Adam(model, clip=0.1)
            training_step(model, optimiser, next(iter(batches(5, ragged))))
            found.append(model.state_dict())
    assert all(error(found[0][k], found[1][k]) < 1e-5 for k in found[0])


# --- arrays decide, not the setting

@of_kinds
@pytest.mark.parametrize("lengths", [None, [4, 1, 2], "Lengths"], ids=str)
def test_law8_arrays_decide_where_a_layer_runs(kind, lengths, double):
    x = np.ones((4, 3, 2), "float32")
    with using("numpy"):
        on_cpu = KINDS[kind].make(2, 3, num_layers=2, seed=0)
    on_gpu = KINDS[kind].make(2, 3, num_layers=2, seed=0)
    x_gpu, made_elsewhere = to_device(x), Lengths([4, 1, 2])
    given = made_elsewhere if lengths == "Lengths" else lengths
    host = on_cpu(x, None, given)[0]
    with using("numpy"):
        made_elsewhere = Lengths([4, 1, 2])
        given = made_elsewhere if lengths == "Lengths" else lengths
        device = on_gpu(x_gpu, None, given)[0]
        step, _ = on_gpu.step(x_gpu[0])
    assert not is_device(host.data) and is_device(device.data) and is_device(step.data)
    assert error(to_host(host), to_host(device)) < 1e-5


@of_kinds
def test_law8_a_layer_moves_and_casts_in_the_middle_of_training(kind, double):
    c = case(kind, dtype="float32")
    layer = c.layer()
    optimiser = Adam(layer, 0.1)
    x, _, _, grads = c.inputs(layer)

    def train(x, dy):
        optimiser.zero_grad()
        layer(x)[0].backward(dy)
        optimiser.step()

    for dtype in ("float32", "float64", "float32"):
        layer.to(dtype=dtype)
        train(*(to_device(a.astype(dtype)) for a in (x, grads[0])))
    layer.to("numpy")
    assert not is_device(layer.W_l0.data)
    train(x, grads[0])
    moved = layer.state_dict()
    with using("numpy"):
        layer = c.layer()
        optimiser = Adam(layer, 0.1)
        for _ in range(4):
            train(x, grads[0])
    assert all(error(moved[k], v) < 1e-5 for k, v in layer.state_dict().items())


@of_kinds
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_law8_a_loss_in_float64_is_cast_on_the_device(kind, ragged, double):
    layer = KINDS[kind].make(2, 3, seed=1, dtype="float32")
    x, _, lengths = data(5)
    y, _ = layer(to_device(x), None, lengths if ragged else None)
    (y * to_device(np.ones(y.shape))).sum().backward()
    assert all(p.grad.dtype == "float32" for p in layer.parameters().values())


@of_kinds
def test_law8_predict_gives_arrays_of_the_device(kind, double):
    model = Forecast(kind)
    y = predict(model, to_device(data(5)[0]))
    assert is_device(y) and y.shape == (5, 6, 1)
