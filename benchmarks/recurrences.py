"""Forward and backward passes of the recurrences, readable against fast, on one device."""

import time
from collections.abc import Callable

import numpy

from rnntext.autograd import Tensor, no_grad
from rnntext.backend import asarray, backend, save_result
from rnntext.gated import GRU, LSTM
from rnntext.rnn import RNN, Recurrent, use_implementation

from .side_by_side import compare

KINDS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
SIZES = {  # name: (T, B, I, H)
    "language model": (35, 20, 200, 200),
    "medium": (100, 32, 128, 256),
    "rows of digits": (28, 128, 28, 128),
    "stream": (1000, 1, 64, 128),
}


def training(layer: Recurrent, x: Tensor, implementation: str | None) -> Callable[[], None]:
    """One forward and backward pass, in the readable form or the one the registry chooses."""

    def run() -> None:
        y, _ = layer(x)
        y.backward(y.data)
        layer.zero_grad()
        x.grad = None

    def readable() -> None:
        with use_implementation(implementation):
            run()

    return readable if implementation else run


def inference(layer: Recurrent, x: Tensor) -> Callable[[], None]:
    """One forward pass with nothing recorded."""

    def run() -> None:
        with no_grad():
            layer(x)

    return run


def torch_training(layer: Recurrent, x: Tensor) -> Callable[[], None] | None:
    """The same pass in PyTorch on the CPU, with one thread; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    peer = getattr(torch.nn, type(layer).__name__)(layer.input_size, layer.hidden_size)
    given = torch.from_numpy(numpy.asarray(x)).requires_grad_()

    def run() -> None:
        y, _ = peer(given)
        y.backward(y.detach())
        peer.zero_grad()
        given.grad = None

    return run


def measure(seconds: float = 2.0, finish: Callable[[], object] = lambda: None) -> None:
    """Time all kinds and sizes where arrays are born now, print and store them."""
    for kind in KINDS:
        measure_kind(kind, seconds, finish)


def measure_kind(kind: str, seconds: float, finish: Callable[[], object]) -> None:
    started, values = time.perf_counter(), {}
    for name, (T, B, I, H) in SIZES.items():
        layer = KINDS[kind](I, H, seed=0)
        x = Tensor(asarray(numpy.random.default_rng(0).standard_normal((T, B, I), "float32")))
        functions = {"readable": training(layer, x, "readable"), "fast": training(layer, x, None)}
        if backend() == "numpy" and (peer := torch_training(layer, x)):
            functions["torch"] = peer
        functions["inference"] = inference(layer, x)
        values[name] = compare(functions, seconds, finish)
        shown = [f"{k} {v['ms']:.3g} ms ({v['ratio']:.2f})" for k, v in values[name].items()]
        print(f"{kind:5} {name:16} {', '.join(shown)}", flush=True)
    save_result(f"{kind}-{backend()}", values, {"sizes": {k: list(v) for k, v in SIZES.items()}},
                [0], time.perf_counter() - started)
