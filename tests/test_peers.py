"""Law 4: PyTorch and ONNX Runtime, given the same weights, compute the same.

Skipped where they are not installed: `pip install 'rnntext[peers]'`.
"""

import numpy as np
import pytest
from under_law import KINDS, Case, as_list, assert_close, case, error, results

from rnntext.autograd import no_grad

pytestmark = pytest.mark.usefixtures("fresh_library")
LIMIT = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch", reason="PyTorch is not installed: rnntext[peers]")
    module.set_num_threads(1)
    return module


def torch_layer(torch, layer, case_: Case):
    "A layer of PyTorch with our weights: transposed, and our one bias as the first of its two."
    options = {"nonlinearity": layer.nonlinearity} if case_.kind == "RNN" else {}
    peer = getattr(torch.nn, case_.kind)(
        layer.input_size, layer.hidden_size, layer.num_layers, bidirectional=layer.bidirectional,
        dtype=getattr(torch, str(layer.W_l0.dtype)), **options)
    with torch.no_grad():
        for suffix in (s for _, _, s in layer._runs()):
            ours = {n: torch.from_numpy(getattr(layer, n + suffix).data) for n in layer.shapes(1)}
            getattr(peer, "weight_ih" + suffix).copy_(ours["W"].T)
            getattr(peer, "weight_hh" + suffix).copy_(ours["R"].T)
            getattr(peer, "bias_ih" + suffix).copy_(ours["b"])
            second = getattr(peer, "bias_hh" + suffix).zero_()
            if "b_hn" in ours:
                second[2 * layer.hidden_size:].copy_(ours["b_hn"])
    return peer


def torch_results(torch, layer, case_: Case, x, state, lengths, grads) -> dict:
    "What `results` gives, by PyTorch."
    packing = torch.nn.utils.rnn
    peer = torch_layer(torch, layer, case_)
    x = torch.from_numpy(x.copy()).requires_grad_()
    states = state and [torch.from_numpy(s.copy()).requires_grad_() for s in state]
    given = x if lengths is None else packing.pack_padded_sequence(
        x, lengths, enforce_sorted=False)
    y, end = peer(given, states and (tuple(states) if len(states) > 1 else states[0]))
    if lengths is not None:
        y, _ = packing.pad_packed_sequence(y, total_length=len(x))
    ends = as_list(end)
    sum((a * torch.from_numpy(g)).sum() for a, g in zip([y, *ends], grads, strict=True)).backward()
    found = {"y": y} | {f"last {n}": e for n, e in zip(layer.states, ends, strict=True)}
    found |= {"dx": x.grad} | {f"d{n}": s.grad for n, s in
                               zip(layer.states, states or [], strict=False)}
    for suffix in (s for _, _, s in layer._runs()):
        found[f"dW{suffix}"] = getattr(peer, "weight_ih" + suffix).grad.T
        found[f"dR{suffix}"] = getattr(peer, "weight_hh" + suffix).grad.T
        found[f"db{suffix}"] = getattr(peer, "bias_ih" + suffix).grad
        if f"b_hn{suffix}" in layer.parameters():
            found[f"db_hn{suffix}"] = getattr(peer, "bias_hh" + suffix).grad[2 * layer.hidden_size:]
    return {k: v.detach().numpy() for k, v in found.items()}


SHAPES = [  # T, B, I, H, lengths
    (7, 3, 2, 4, None), (7, 4, 2, 4, [3, 7, 1, 7]), (1, 1, 1, 1, None), (5, 3, 1, 1, [1, 1, 1]),
    (100, 2, 8, 16, [100, 37]),
]


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("state", ["zeros", "tensor"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_law4_pytorch_rnn(torch, shape, bidirectional, layers, state, dtype, nonlinearity):
    T, B, I, H, lengths = shape  # noqa: E741
    c = case("RNN", num_layers=layers, bidirectional=bidirectional, nonlinearity=nonlinearity,
             dtype=dtype, state=state, init="pytorch")
    layer = c.layer(I, H)
    given = c.inputs(layer, T=T, B=B, lengths=lengths, seed=2)
    assert_close(results(layer, *given), torch_results(torch, layer, c, *given), LIMIT[dtype])


def test_law4_pytorch_dropout_between_layers_has_the_same_mean_and_spread(torch):
    "Masks differ, so the first two moments are compared over many draws."
    c = case("RNN", num_layers=2, dropout=0.3, nonlinearity="relu", dtype="float32")
    layer = c.layer(4, 8).train()
    peer = torch_layer(torch, layer, c)
    peer.dropout = 0.3
    x = np.random.default_rng(0).standard_normal((1, 20_000, 4)).astype("float32") + 1
    with no_grad():
        ours = np.asarray(layer(x)[0])[0]
    with torch.no_grad():
        theirs = peer(torch.from_numpy(x))[0][0].numpy()
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 0.08
    assert np.abs(ours.std(0) - theirs.std(0)).max() < 0.05 * theirs.std()


@pytest.fixture(scope="module")
def onnx_rnn():
    "Runs the RNN operator on one layer: (direction, activation, W, R, b, x, lengths, h0)."
    reason = "ONNX or ONNX Runtime is not installed: rnntext[peers]"
    onnx = pytest.importorskip("onnx", reason=reason)
    runtime = pytest.importorskip("onnxruntime", reason=reason)
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT

    def run(direction, activations, hidden, feeds):
        types = {n: onnx.TensorProto.INT32 if n == "sequence_lens" else FLOAT for n in feeds}
        names = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
        node = helper.make_node(
            "RNN", [n if n in feeds else "" for n in names], ["Y", "Y_h"], direction=direction,
            hidden_size=hidden, activations=activations,
            activation_alpha=[1.0] * len(activations), activation_beta=[0.0] * len(activations))
        graph = helper.make_graph(
            [node], "rnn",
            [helper.make_tensor_value_info(n, types[n], a.shape) for n, a in feeds.items()],
            [helper.make_tensor_value_info(n, FLOAT, None) for n in ("Y", "Y_h")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    return run


ACTIVATION = {"tanh": "Tanh", "relu": "Relu", "identity": "Affine"}


@pytest.mark.parametrize("nonlinearity", ACTIVATION)
@pytest.mark.parametrize("state", ["zeros", "array"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_law4_onnx_runtime_rnn(onnx_rnn, shape, direction, state, nonlinearity):
    T, B, I, H, lengths = shape  # noqa: E741
    c = case("RNN", bidirectional=direction != "forward", nonlinearity=nonlinearity,
             dtype="float32", state=state)
    layer = c.layer(I, H)
    x, given, lengths, _ = c.inputs(layer, T=T, B=B, lengths=lengths, seed=3)
    y, h = (np.asarray(a) for a in layer(x, given and given[0], lengths))
    runs = {"forward": [0], "reverse": [1], "bidirectional": [0, 1]}[direction]
    p = layer.state_dict()
    suffixes = [layer._runs()[r][2] for r in runs]
    feeds = {"X": x, "W": np.stack([p["W" + s].T for s in suffixes]),
             "R": np.stack([p["R" + s].T for s in suffixes]),
             "B": np.stack([np.concatenate([p["b" + s], 0 * p["b" + s]]) for s in suffixes])}
    if lengths is not None:
        feeds["sequence_lens"] = np.array(lengths, "int32")
    if given:
        feeds["initial_h"] = given[0][runs]
    Y, Y_h = onnx_rnn(direction, [ACTIVATION[nonlinearity]] * len(runs), H, feeds)
    ours = np.stack([y[..., r * H:(r + 1) * H] for r in runs], axis=1)
    assert error(ours, Y) < 1e-5 and error(h[runs], Y_h) < 1e-5


def test_every_kind_under_law_has_its_peers():
    "A reminder for the next layer: its comparisons belong in this file."
    tested = {n.removeprefix("test_law4_pytorch_") for n in globals()}
    assert {k.lower() for k in KINDS} <= tested
