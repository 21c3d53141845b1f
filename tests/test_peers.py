"""Law 4: PyTorch and ONNX Runtime, given the same weights, compute the same.

Skipped where they are not installed: `pip install 'rnntext[peers]'`.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from under_law import KINDS, as_list, assert_close, case, error, placed, results

from rnntext.autograd import no_grad
from rnntext.gated import CoupledLSTM, PeepholeLSTM

pytestmark = pytest.mark.usefixtures("fresh_library")
LIMIT = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch", reason="PyTorch is not installed: rnntext[peers]")
    module.set_num_threads(1)
    return module


def torch_layer(torch, layer, kind: str):
    "A layer of PyTorch with our weights: transposed, and our one bias as the first of its two."
    options = {"nonlinearity": layer.cell.nonlinearity} if kind == "RNN" else {}
    options |= {"proj_size": layer.cell.proj_size} if kind == "LSTM" else {}
    peer = getattr(torch.nn, kind)(
        layer.input_size, layer.hidden_size, layer.num_layers, bidirectional=layer.bidirectional,
        dtype=getattr(torch, str(layer.W_l0.dtype)), **options)
    with torch.no_grad():
        for suffix in (s for _, _, s in layer._runs()):
            ours = {n: torch.from_numpy(getattr(layer, n + suffix).data)
                    for n in layer.cell.shapes(1)}
            getattr(peer, "weight_ih" + suffix).copy_(ours["W"].T)
            getattr(peer, "weight_hh" + suffix).copy_(ours["R"].T)
            getattr(peer, "bias_ih" + suffix).copy_(ours["b"])
            second = getattr(peer, "bias_hh" + suffix).zero_()
            if "b_hn" in ours:
                second[2 * layer.hidden_size:].copy_(ours["b_hn"])
            if "W_hr" in ours:
                getattr(peer, "weight_hr" + suffix).copy_(ours["W_hr"].T)
    return peer


def torch_results(torch, layer, kind: str, x, state, lengths, grads) -> dict:
    "What `results` gives, by PyTorch."
    packing = torch.nn.utils.rnn
    peer = torch_layer(torch, layer, kind)
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
        if f"W_hr{suffix}" in layer.parameters():
            found[f"dW_hr{suffix}"] = getattr(peer, "weight_hr" + suffix).grad.T
    return {k: v.detach().numpy() for k, v in found.items()}


SHAPES = [  # T, B, I, H, lengths
    (7, 3, 2, 4, None), (7, 4, 2, 4, [3, 7, 1, 7]), (1, 1, 1, 1, None), (5, 3, 1, 1, [1, 1, 1]),
    (100, 2, 8, 16, [100, 37]),
]
PYTORCH = {  # name: kind, options
    "RNN tanh": ("RNN", {"nonlinearity": "tanh"}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "projected LSTM": ("LSTM", {"proj_size": 3}),
    "GRU": ("GRU", {}),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("state", ["zeros", "tensor"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("name, shape", [
    (name, shape) for name, (_, options) in PYTORCH.items() for shape in SHAPES
    if options.get("proj_size", 0) < shape[3]], ids=str)
def test_law4_pytorch(torch, name, shape, bidirectional, layers, state, dtype):
    (T, B, I, H, lengths), (kind, options) = shape, PYTORCH[name]  # noqa: E741
    c = case(kind, num_layers=layers, bidirectional=bidirectional, dtype=dtype, state=state,
             init="pytorch", **options)
    layer = c.layer(I, H)
    given = c.inputs(layer, T=T, B=B, lengths=lengths, seed=2)
    assert_close(results(layer, *given), torch_results(torch, layer, kind, *given), LIMIT[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_law4_pytorch_dropout_between_layers_has_the_same_mean_and_spread(torch, kind):
    "Masks differ, so the first two moments are compared over many draws."
    options = {"nonlinearity": "relu"} if kind == "RNN" else {}
    c = case(kind, num_layers=2, dropout=0.3, dtype="float32", **options)
    layer = c.layer(4, 8).train()
    peer = torch_layer(torch, layer, kind)
    peer.dropout = 0.3
    x = np.random.default_rng(0).standard_normal((1, 20_000, 4)).astype("float32") + 1
    with no_grad():
        ours = np.asarray(layer(x)[0])[0]
    with torch.no_grad():
        theirs = peer(torch.from_numpy(x))[0][0].numpy()
    scale = theirs.std(0).max()
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 0.06 * scale
    assert np.abs(ours.std(0) - theirs.std(0)).max() < 0.05 * scale


# --- ONNX Runtime: it has one layer, float32, and no gradients

INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]


@pytest.fixture(scope="module")
def onnx_operator():
    "Runs one of the operators RNN, LSTM, GRU on one layer; gives its outputs."
    reason = "ONNX or ONNX Runtime is not installed: rnntext[peers]"
    onnx = pytest.importorskip("onnx", reason=reason)
    runtime = pytest.importorskip("onnxruntime", reason=reason)
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT

    def run(operator, feeds, **attributes):
        types = {n: onnx.TensorProto.INT32 if n == "sequence_lens" else FLOAT for n in feeds}
        outputs = ["Y", "Y_h", "Y_c"][:3 if operator == "LSTM" else 2]
        node = helper.make_node(
            operator, [n if n in feeds else "" for n in INPUTS[:8 if operator == "LSTM" else 6]],
            outputs, **attributes)
        graph = helper.make_graph(
            [node], operator,
            [helper.make_tensor_value_info(n, types[n], a.shape) for n, a in feeds.items()],
            [helper.make_tensor_value_info(n, FLOAT, None) for n in outputs])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    return run


@dataclass
class Operator:
    "An operator of ONNX beside one of our layers."
    kind: str
    options: dict = field(default_factory=dict)  # of our layer
    attributes: dict = field(default_factory=dict)  # of the operator
    activation: str = ""  # for each direction, where it is not the operator's own
    ours: str = "h"  # the order of our blocks
    theirs: str = "h"  # the order of its blocks, in our letters
    one_minus: str = ""  # the block whose gate is one minus ours


ONNX = {
    "RNN tanh": Operator("RNN", {"nonlinearity": "tanh"}, activation="Tanh"),
    "RNN relu": Operator("RNN", {"nonlinearity": "relu"}, activation="Relu"),
    "RNN identity": Operator("RNN", {"nonlinearity": "identity"}, activation="Affine"),
    "LSTM": Operator("LSTM", ours="ifgo", theirs="iofg"),
    "peephole LSTM": Operator("LSTM", {"cell": PeepholeLSTM}, ours="ifgo", theirs="iofg"),
    # ours has no block i; theirs computes f as 1 - i, and does not look at the block f
    "coupled LSTM": Operator("LSTM", {"cell": CoupledLSTM}, {"input_forget": 1},
                             ours="fgo", theirs="iofg", one_minus="i"),
    "GRU": Operator("GRU", attributes={"linear_before_reset": 1}, ours="rzn", theirs="zrn"),
    "GRU, reset before": Operator("GRU", {"reset_after": False}, {"linear_before_reset": 0},
                                  ours="rzn", theirs="zrn"),
}


def reordered(a: np.ndarray, operator: Operator, H: int) -> np.ndarray:
    "The blocks of our (., n * H) as rows of (m * H, .), in the order of the operator."
    blocks = {k: a[..., i * H:(i + 1) * H] for i, k in enumerate(operator.ours)}
    if operator.one_minus:
        blocks[operator.one_minus] = -blocks["f"]  # sigmoid(-z) is 1 - sigmoid(z)
    return np.concatenate([blocks[k] for k in operator.theirs], axis=-1).T


def onnx_weights(values: dict, suffix: str, operator: Operator, H: int) -> dict:
    "W, R, B and perhaps P of one direction."
    W, R, b = (reordered(values[n + suffix], operator, H) for n in "WRb")
    second = 0 * b
    if f"b_hn{suffix}" in values:
        second[2 * H:] = values[f"b_hn{suffix}"]
    found = {"W": W, "R": R, "B": np.concatenate([b, second])}
    if f"p{suffix}" in values:
        i, f, o = values[f"p{suffix}"].reshape(3, H)
        found["P"] = np.concatenate([i, o, f])
    return found


@pytest.mark.parametrize("name", ONNX)
@pytest.mark.parametrize("state", ["zeros", "array"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_law4_onnx_runtime(onnx_operator, shape, direction, state, name):
    (T, B, I, H, lengths), operator = shape, ONNX[name]  # noqa: E741
    c = case(operator.kind, bidirectional=direction != "forward", dtype="float32", state=state,
             **operator.options)
    layer = c.layer(I, H)
    x, given, lengths, _ = c.inputs(layer, T=T, B=B, lengths=lengths, seed=3)
    y, end = layer(x, placed(given), lengths)
    runs = {"forward": [0], "reverse": [1], "bidirectional": [0, 1]}[direction]
    weights = [onnx_weights(layer.state_dict(), layer._runs()[r][2], operator, H) for r in runs]
    feeds = {"X": x} | {n: np.stack([w[n] for w in weights]) for n in weights[0]}
    if lengths is not None:
        feeds["sequence_lens"] = np.array(lengths, "int32")
    feeds |= {f"initial_{n}": s[runs] for n, s in zip(layer.states, given or [], strict=False)}
    attributes = dict(operator.attributes, direction=direction, hidden_size=H)
    if operator.activation:
        attributes |= {"activations": [operator.activation] * len(runs),
                       "activation_alpha": [1.0] * len(runs), "activation_beta": [0.0] * len(runs)}
    Y, *ends = onnx_operator(operator.kind, feeds, **attributes)
    ours = np.stack([np.asarray(y)[..., r * H:(r + 1) * H] for r in runs], axis=1)
    assert error(ours, Y) < 1e-5
    for a, b in zip(as_list(end), ends, strict=True):
        assert error(np.asarray(a)[runs], b) < 1e-5


def test_law4_every_kind_has_its_peers():
    assert {kind for kind, _ in PYTORCH.values()} == set(KINDS)
    assert {operator.kind for operator in ONNX.values()} == set(KINDS)
