"""The recurrent layers that the laws hold for, their options, and an engine to compare with.

A new layer is one entry in `KINDS`.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnntext.autograd import Tensor, no_grad, primitive
from rnntext.backend import concatenate, stack, to_device, to_host, where, zeros
from rnntext.gated import GRU, LSTM, CoupledLSTM, LSTMCell, PeepholeLSTM
from rnntext.rnn import RNN


def uniform(name: str, shape: tuple, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-0.7, 0.7, shape)


@dataclass(frozen=True)
class Kind:
    "A layer under law."
    make: Callable
    options: dict = field(default_factory=dict)  # its own options: name -> values, default first
    kinked: Callable = lambda options: False  # has a corner where differences are wrong
    preactivation: Callable | None = None  # (layer, x, state, weights): distance from the corner


def _rnn_preactivation(layer: RNN, x, state, weights):
    W, R, b = weights
    return x @ W + state[0] @ R + b


KINDS = {
    "RNN": Kind(RNN, {"nonlinearity": ("tanh", "relu", "identity")},
                kinked=lambda options: options["nonlinearity"] == "relu",
                preactivation=_rnn_preactivation),
    "LSTM": Kind(LSTM, {"cell": (LSTMCell, PeepholeLSTM, CoupledLSTM), "proj_size": (0, 2),
                        "forget_bias": (1.0, 0.0)}),
    "GRU": Kind(GRU, {"reset_after": (True, False)}),
}
COMMON = {
    "num_layers": (1, 2),
    "bidirectional": (False, True),
    "dropout": (0.0, 0.5),  # the laws run in evaluation mode
    "init": ("orthogonal", "pytorch", uniform),
    "lengths": (None, "ragged"),
    "state": ("zeros", "array", "tensor"),
    "learn_state": (False, True),
    "dtype": ("float64", "float32"),
}


def _allowed(case: dict) -> bool:
    return not (case["dropout"] and case["num_layers"] == 1)


def _pairs(case: dict) -> set:
    return set(itertools.combinations(sorted((k, str(v)) for k, v in case.items()), 2))


def _covering(choices: dict) -> list[dict]:
    "Each option alone, then as few cases as a greedy choice needs for all pairs."
    plain = {k: v[0] for k, v in choices.items()}
    cases = [plain] + [{**plain, k: v, **({"num_layers": 2} if k == "dropout" else {})}
                       for k, values in choices.items() for v in values[1:]]
    everything = [dict(zip(choices, values, strict=True))
                  for values in itertools.product(*choices.values())]
    everything = [case for case in everything if _allowed(case)]
    missing = set().union(*map(_pairs, everything)) - set().union(*map(_pairs, cases))
    while missing:
        best = max(everything, key=lambda case: len(_pairs(case) & missing))
        cases.append(best)
        missing -= _pairs(best)
    return cases


@dataclass
class Case:
    "One layer with inputs, and the gradients that arrive at its outputs."
    kind: str
    chosen: dict

    def __str__(self) -> str:
        plain = {k: v[0] for k, v in self._choices(self.kind).items()}
        words = [f"{k}={getattr(v, '__name__', v)}" for k, v in self.chosen.items()
                 if v != plain[k]]
        return "-".join([self.kind, *words])

    @staticmethod
    def _choices(kind: str) -> dict:
        return COMMON | KINDS[kind].options

    def layer(self, I: int = 2, H: int = 3, **changes: Any):  # noqa: E741
        "The layer in evaluation mode; biases, peepholes and learnt states are not zero."
        own = {"num_layers", "bidirectional", "dropout", "learn_state", "init", "dtype",
               *KINDS[self.kind].options}
        options = {k: v for k, v in self.chosen.items() if k in own} | {"seed": 3} | changes
        layer, rng = KINDS[self.kind].make(I, H, **options), np.random.default_rng(5)
        layer.load_state_dict({k: v + 0.3 * rng.standard_normal(v.shape) * (v.ndim == 1)
                               for k, v in layer.state_dict().items()})
        return layer.eval()

    def inputs(self, layer: Any, T: int = 5, B: int = 3, seed: int = 0, lengths: Any = None):
        "Host arrays: x, states or None, lengths or None, gradients of y and of the states."
        rng = np.random.default_rng(seed)
        if self.chosen["lengths"] and lengths is None:
            lengths = [T, *rng.integers(1, T + 1, B - 1).tolist()][:B]
            lengths[-1:] = [max(1, T // 2)] if B > 1 else [T]
        shapes = state_shapes(layer, B)

        def draw(*shape):
            return rng.standard_normal(shape).astype(layer.W_l0.dtype)
        given = None if self.chosen["state"] == "zeros" else [draw(*s) for s in shapes]
        grads = [draw(T, B, width(layer) * layer.directions)] + [draw(*s) for s in shapes]
        return draw(T, B, layer.input_size), given, lengths, grads

    def smooth_inputs(self, layer: Any, **sizes: Any):
        "Inputs that keep every corner at a distance, so that differences are derivatives."
        for seed in range(100):
            drawn = self.inputs(layer, seed=seed, **sizes)
            if not KINDS[self.kind].kinked(self.chosen) or self._margin(layer, *drawn[:3]) > 1e-3:
                return drawn
        raise AssertionError("no seed keeps away from the corner")

    def _margin(self, layer: Any, x: np.ndarray, state: list | None, lengths: list | None):
        "The smallest distance of a preactivation from the corner."
        seen = []

        def note(*args):
            seen.append(np.abs(to_host(KINDS[self.kind].preactivation(*args))).min())

        with no_grad():
            stepwise(layer, to_device(x), placed(state), lengths, before=note)
        return min(seen)


_PLAIN = {kind: {k: v[0] for k, v in Case._choices(kind).items()} for kind in KINDS}
_DEEP = {"bidirectional": True, "lengths": "ragged", "state": "tensor"}
_MORE = [_DEEP, _DEEP | {"num_layers": 2},  # what a text encoder uses
         {"num_layers": 2, "lengths": "ragged"}]  # runs in chunks through all layers
CASES = [Case(kind, chosen) for kind in KINDS for chosen in
         _covering(Case._choices(kind)) + [_PLAIN[kind] | more for more in _MORE]]
RAGGED = [case for case in CASES if case.chosen["lengths"]]
ONE_WAY = [case for case in CASES if not case.chosen["bidirectional"]]


def case(kind: str, **chosen: Any) -> Case:
    "A case by its options, the rest as plain as can be."
    return Case(kind, _PLAIN[kind] | chosen)


def width(layer: Any) -> int:
    "The size of an output in one direction."
    return layer.cell.sizes()[0]


def state_shapes(layer: Any, B: int) -> list[tuple]:
    return [(layer.num_layers * layer.directions, B, size) for size in layer.cell.sizes()]


def placed(state: list | None, tensors: bool = False) -> Any:
    "A layer's state from host arrays: None, an array, or a tuple, or the same as Tensors."
    if state is None:
        return None
    parts = tuple(Tensor(to_device(a.copy())) if tensors else to_device(a.copy()) for a in state)
    return parts if len(parts) > 1 else parts[0]


def as_list(state: Any) -> list:
    return list(state) if isinstance(state, tuple) else [state]


def stepwise(layer: Any, x: Any, state: Any, lengths: list | None, before: Callable = None):
    "The whole layer as a loop over the cell's step: the oracle of everything faster."
    D, T, last = layer.directions, len(x), []
    if state is None:
        state = [zeros(s, dtype=layer.W_l0.dtype) for s in state_shapes(layer, x.shape[1])]
        if layer.learn_state:
            state = [s + stack([getattr(layer, f"{name}0{suffix}") for _, _, suffix in
                                layer._runs()])[:, None]
                     for name, s in zip(layer.states, state, strict=True)]
    state = as_list(state) if not isinstance(state, list) else state
    n = None if lengths is None else to_device(np.array(lengths)[:, None])
    for run, (layer_number, reverse, suffix) in enumerate(layer._runs()):
        if run % D == 0:
            source = x if layer_number == 0 else concatenate(ys, axis=2)  # noqa: F821
            ys = []
        now, found = tuple(s[run] for s in state), [None] * T
        for t in reversed(range(T)) if reverse else range(T):
            if before is not None:
                before(layer, source[t], now, layer.weights(suffix))
            new = layer.cell.step(source[t], now, layer.weights(suffix))
            y = new[0]
            now = new if n is None else tuple(
                where(t < n, a, b) for a, b in zip(new, now, strict=True))
            found[t] = y if n is None else where(t < n, y, 0.0)
        ys.append(stack(found))
        last.append(now)
    joined = tuple(stack([s[i] for s in last]) for i in range(len(layer.states)))
    return concatenate(ys, axis=2), joined if len(joined) > 1 else joined[0]


@primitive
def arrivals(*outputs: Any, grads: list):
    "A number that sends these gradients back to the outputs, whatever they hold."
    return zeros((), like=outputs[0]), lambda _: tuple(grads)


def results(layer: Any, x: np.ndarray, state: list | None, lengths: Any, grads: list,
            call: Callable | None = None, tensors: bool = True) -> dict[str, np.ndarray]:
    "Outputs and all gradients of a call, on the host, by name."
    x, state = Tensor(to_device(x.copy())), placed(state, tensors)
    layer.zero_grad()
    y, end = (call or layer)(x, state, lengths)
    outputs = [y, *as_list(end)]
    arrivals(*outputs, grads=[to_device(g) for g in grads]).backward()
    found = {"y": y} | {f"last {n}": e for n, e in zip(layer.states, outputs[1:], strict=True)}
    found |= {"dx": x.grad} | {f"d{k}": np.zeros(p.shape) if p.grad is None else p.grad
                               for k, p in layer.parameters().items()}  # None: a state was given
    if state is not None and tensors:
        found |= {f"d{n}": s.grad for n, s in zip(layer.states, as_list(state), strict=True)}
    return {k: np.array(to_host(v)) for k, v in found.items()}


def error(got: np.ndarray, expected: np.ndarray) -> float:
    "The largest difference relative to the largest entry."
    got, expected = np.asarray(got, "f8"), np.asarray(expected, "f8")
    assert got.shape == expected.shape
    if not np.isfinite(got).all() or not np.isfinite(expected).all():
        return float("inf")  # a NaN would be lost in max()
    scale = max(np.abs(expected).max(), np.abs(got).max())
    return float(np.abs(got - expected).max() / scale) if scale else 0.0


def assert_close(got: dict, expected: dict, tolerance: float) -> None:
    assert got.keys() == expected.keys()
    errors = {k: error(got[k], expected[k]) for k in got}
    assert all(e < tolerance for e in errors.values()), errors


def assert_same_bits(got: dict, expected: dict) -> None:
    assert got.keys() == expected.keys()
    different = [k for k in got if got[k].tobytes() != expected[k].tobytes()]
    assert not different, different


def tolerance(layer: Any) -> float:
    return 1e-5 if layer.W_l0.dtype == "float32" else 1e-12
