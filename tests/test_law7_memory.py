"""Law 7: inference stores nothing. What it needs beyond its output does not grow with time."""

import contextlib
import gc
import tracemalloc

import numpy as np
import pytest
from under_law import KINDS, as_list

from rnntext.autograd import no_grad
from rnntext.backend import to_host
from rnntext.gated import PeepholeLSTM

FORMS = {
    "one layer": ({}, False),
    "one layer, ragged": ({}, True),
    "two layers": ({"num_layers": 2}, False),
    "two layers, ragged": ({"num_layers": 2}, True),
    "both directions": ({"bidirectional": True}, False),
    "both directions, ragged": ({"bidirectional": True}, True),
}
# Every form of one kind. The others share its code for layers and directions, and get a form of
# one layer, where only their own loop over chunks of time bounds the memory.
MEASURED = {
    "RNN": ({}, list(FORMS)),
    "LSTM": ({}, ["one layer, ragged"]),
    "GRU": ({}, ["both directions, ragged"]),
    "GRU, reset before": ({"reset_after": False}, ["one layer"]),
    "LSTM over the tape": ({"cell": PeepholeLSTM, "proj_size": 20}, ["one layer, ragged"]),
}
INPUTS, HIDDEN, BATCH = 8, 32, 8  # large enough that what the interpreter needs does not count


def layer_of(name: str, **options):
    kind = name.split(",")[0].split()[0]
    return KINDS[kind].make(INPUTS, HIDDEN, seed=0, dtype="float32",
                            **MEASURED[name][0], **options)


def beyond_the_output(layer, T: int, ragged: bool, context=no_grad) -> int:
    "Bytes at the peak of a call, without its output."
    x = np.random.default_rng(0).standard_normal((T, BATCH, INPUTS), dtype="float32")
    lengths = [T, T // 2, T - 1, 1] * (BATCH // 4) if ragged else None
    with context():
        layer(x[:70])  # what is made once is made here
        gc.collect()
        fill_free_lists()
        tracemalloc.start()
        try:
            y, end = layer(x, None, lengths)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    return peak - sum(to_host(a).nbytes for a in [y, *as_list(end)])


def fill_free_lists() -> None:
    "CPython keeps up to 2,000 tuples of each length for later: they would count as growth."
    del [[tuple([0] * n) for _ in range(2_000)] for n in range(1, 20)][:]


@pytest.mark.parametrize("name, form", [(n, f) for n, (_, forms) in MEASURED.items()
                                        for f in forms])
def test_law7_inference_needs_no_more_memory_for_a_longer_sequence(name, form, fresh_library):
    options, ragged = FORMS[form]
    layer = layer_of(name, **options).eval()
    short, long = (beyond_the_output(layer, T, ragged) for T in (1_000, 10_000))
    assert 0 < long < 1.1 * short, (short, long)


@pytest.mark.parametrize("name", MEASURED)
def test_law7_the_meter_sees_what_recording_stores(name, fresh_library):
    layer = layer_of(name)
    short, long = (beyond_the_output(layer, T, False, contextlib.nullcontext) for T in (50, 500))
    assert long > 5 * short


def test_law7_every_kind_is_measured():
    assert {name.split(",")[0].split()[0] for name in MEASURED} == set(KINDS)
