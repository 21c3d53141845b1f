"""Law 9: a wrong call is a named error that says what came, what was expected, what to do."""

import re
import sys

import numpy as np
import pytest
from under_law import KINDS, as_list

from rnntext.autograd import TapeUsedError, Tensor, no_grad
from rnntext.backend import DeviceError, using
from rnntext.gated import GRU, LSTM, CoupledLSTM, GRUCell, LSTMCell, PeepholeLSTM
from rnntext.learn import Lengths, Linear, Module, predict
from rnntext.rnn import RNN, ElmanCell, Recurrent, use_implementation

f4 = "float32"
X = np.ones((4, 2, 3), f4)  # T=4, B=2, I=3
H0 = np.zeros((1, 2, 5), f4)


def state(layer, h):
    "`h` as a state of the layer: alone, or once for each array of the state."
    return h if len(layer.states) == 1 else (h,) * len(layer.states)


class Foreign:
    "An array of another library."
    shape, dtype, ndim = (4, 2, 3), "torch.float32", 3


def readable(layer, name):
    with use_implementation(name):
        layer(X)


def twice(layer):
    loss = layer(X)[0].sum()
    loss.backward()
    loss.backward()


def carried(layer):
    y, end = layer(X)
    y.sum().backward()
    layer(X, end)[0].sum().backward()


def unrecorded(layer):
    with no_grad():
        loss = layer(X)[0].sum()
    loss.backward()


def changed(layer, **entries):
    values = layer.state_dict()
    for name, value in entries.items():
        values = {k: v for k, v in values.items() if k != name}
        values |= {} if value is None else {name: value}
    layer.load_state_dict(values)


# every call of a layer (I=3, H=5, float32, one layer): the call, its error, words of the message
CALLS = {
    # shapes
    "features": (lambda m: m(X[..., :2]), ValueError, ["x", "(T, B, 3)", "(4, 2, 2)"]),
    "batch first, wide": (lambda m: m(X.transpose(1, 2, 0)), ValueError,
                          ["(T, B, 3)", "(2, 3, 4)", "x.swapaxes(0, 1)"]),
    "one sequence": (lambda m: m(X[:, 0]), ValueError, ["(T, B, 3)", "(4, 3)", "x[:, None]"]),
    "one vector": (lambda m: m(X[0, 0]), ValueError, ["(T, B, 3)", "(3,)"]),
    "four axes": (lambda m: m(X[None]), ValueError, ["(T, B, 3)", "(1, 4, 2, 3)"]),
    "a number": (lambda m: m(1.0), ValueError, ["(T, B, 3)", "()"]),
    "nothing": (lambda m: m(None), ValueError, ["(T, B, 3)", "()"]),
    "no steps": (lambda m: m(X[:0]), ValueError, ["at least one step", "(0, 2, 3)"]),
    "no sequences": (lambda m: m(X[:, :0]), ValueError, ["one sequence", "(4, 0, 3)"]),
    "no features": (lambda m: m(X[..., :0]), ValueError, ["(T, B, 3)", "(4, 2, 0)"]),
    # types
    "float64": (lambda m: m(X.astype("f8")), TypeError, ["x is float64", "float32", "layer.to("]),
    "float16": (lambda m: m(X.astype("f2")), TypeError, ["x is float16", "float32"]),
    "another byte order": (lambda m: m(X.astype(">f4")), TypeError, [">f4", "float32"]),
    "integers": (lambda m: m(X.astype(int)), TypeError, ["int64", "x.astype('float32')"]),
    "booleans": (lambda m: m(X > 0), TypeError, ["bool", "x.astype('float32')"]),
    "complex numbers": (lambda m: m(X + 0j), TypeError, ["complex", "floating point"]),
    "objects": (lambda m: m(X.astype(object)), TypeError, ["object", "floating point"]),
    "words": (lambda m: m([[["a", "b", "c"]]]), TypeError, ["x", "array of numbers", "list"]),
    "lists of several sizes": (lambda m: m([[[1.0, 2, 3]], [[1.0]]]), TypeError,
                               ["x", "array of numbers", "list"]),
    "a set": (lambda m: m({1.0}), TypeError, ["x", "array of numbers", "set"]),
    "another library": (lambda m: m(Foreign()), TypeError, ["Foreign", "NumPy or CuPy", "asarray"]),
    "a list of Tensors": (lambda m: m([Tensor(x) for x in X]), TypeError,
                          ["list of Tensors", "stack"]),
    # the state
    "state of another batch": (lambda m: m(X, state(m, np.zeros((1, 4, 5), f4))), ValueError,
                               ["state h", "(1, 2, 5)", "(1, 4, 5)"]),
    "state of another size": (lambda m: m(X, state(m, np.zeros((1, 2, 4), f4))), ValueError,
                              ["state h", "(1, 2, 5)", "(1, 2, 4)"]),
    "state of two layers": (lambda m: m(X, state(m, np.zeros((2, 2, 5), f4))), ValueError,
                            ["state h", "(1, 2, 5)", "(2, 2, 5)"]),
    "state without layers": (lambda m: m(X, state(m, H0[0])), ValueError,
                             ["(1, 2, 5)", "got (2, 5)"]),
    "state to stretch": (lambda m: m(X, state(m, H0[:, :1])), ValueError,
                         ["(1, 2, 5)", "(1, 1, 5)"]),
    "state batch first": (lambda m: m(X, state(m, H0.swapaxes(0, 1))), ValueError,
                          ["(1, 2, 5)", "(2, 1, 5)", "layers times directions, batch"]),
    "state in float64": (lambda m: m(X, state(m, H0.astype("f8"))), TypeError,
                         ["state h", "float64", "float32"]),
    "state of integers": (lambda m: m(X, state(m, H0.astype(int))), TypeError,
                          ["state h", "int64"]),
    "state in words": (lambda m: m(X, state(m, "zeros")), TypeError,
                       ["state h", "array of numbers", "str"]),
    "three states": (lambda m: m(X, (H0, H0, H0)), ValueError,
                     ["state", "h (1, 2, 5)", "tuple of 3", "returns it"]),
    "no states": (lambda m: m(X, ()), ValueError, ["state", "h (1, 2, 5)", "tuple of 0"]),
    # lengths
    "a length of 0": (lambda m: m(X, None, [4, 0]), ValueError,
                      ["lengths", "1..T=4", "got 0 at position 1"]),
    "a negative length": (lambda m: m(X, None, [-1, 2]), ValueError,
                          ["1..T=4", "-1", "position 0"]),
    "a length above T": (lambda m: m(X, None, [4, 5]), ValueError,
                         ["1..T=4", "got 5 at position 1"]),
    "too few lengths": (lambda m: m(X, None, [4]), ValueError, ["B=2", "got 1"]),
    "lengths per step": (lambda m: m(X, None, [2, 2, 2, 2]), ValueError,
                         ["B=2", "got 4", "x.swapaxes(0, 1)"]),
    "no lengths": (lambda m: m(X, None, []), ValueError, ["(B,) integers", "(0,)"]),
    "lengths as floats": (lambda m: m(X, None, [4.0, 2.0]), ValueError, ["integers", "float64"]),
    "lengths as booleans": (lambda m: m(X, None, [True, True]), ValueError, ["integers", "bool"]),
    "lengths as a column": (lambda m: m(X, None, [[4], [2]]), ValueError, ["(B,)", "(2, 1)"]),
    "lengths in lists of several sizes": (lambda m: m(X, None, [4, [2]]), ValueError,
                                          ["(B,) integers", "object"]),
    "one length": (lambda m: m(X, None, 4), TypeError, ["lengths", "list", "int 4"]),
    "a Tensor of lengths": (lambda m: m(X, None, Tensor(np.ones(2))), TypeError,
                            ["lengths", "on the host", "float64"]),
    "a mask": (lambda m: m(X, None, X[..., 0] > 0), ValueError, ["(B,) integers", "bool"]),
    "Lengths of another batch": (lambda m: m(X, None, Lengths([1, 2, 3])), ValueError,
                                 ["B=2", "got 3"]),
    "Lengths of longer sequences": (lambda m: m(X, None, Lengths([1, 9])), ValueError,
                                    ["1..T=4", "got 9 at position 1"]),
    "lengths in place of the state": (lambda m: m(X, [4, 2, 4]), ValueError,
                                      ["state", "h (1, 2, 5)", "list of 3"]),
    # one step
    "a sequence into step": (lambda m: m.step(X), ValueError, ["(B, 3)", "(4, 2, 3)", "x[t]"]),
    "a vector into step": (lambda m: m.step(X[0, 0]), ValueError, ["(B, 3)", "(3,)"]),
    "a state of another batch into step": (lambda m: m.step(X[0], state(m, H0[:, :1])), ValueError,
                                           ["(1, 2, 5)", "(1, 1, 5)"]),
    "float64 into step": (lambda m: m.step(X[0].astype("f8")), TypeError,
                          ["x is float64", "float32"]),
    "lengths into step": (lambda m: m.step(X[0], None, [1, 1]), TypeError, ["positional"]),
    # looking inside
    "a trace of features": (lambda m: m.trace(X[..., :2]), ValueError, ["(T, B, 3)", "(4, 2, 2)"]),
    "a trace of long lengths": (lambda m: m.trace(X, None, [4, 5]), ValueError,
                                ["1..T=4", "got 5 at position 1"]),
    "a trace from no states": (lambda m: m.trace(X, ()), ValueError, ["h (1, 2, 5)", "tuple of 0"]),
    "an explanation of nothing": (lambda m: m.explain(None), ValueError, ["(T, B, 3)", "()"]),
    # the tape
    "backward from many numbers": (lambda m: m(X)[0].backward(), ValueError,
                                   ["single number", "(4, 2, 5)"]),
    "a gradient of another shape": (lambda m: m(X)[0].backward(np.ones((4, 2), f4)), ValueError,
                                    ["(4, 2)", "(4, 2, 5)"]),
    "backward twice": (twice, TapeUsedError, ["before", "forward pass again"]),
    "a state that was not detached": (carried, TapeUsedError, ["detach(state)"]),
    "backward under no_grad": (unrecorded, ValueError, ["no_grad"]),
    # forms and files
    "an unknown form": (lambda m: readable(m, "cuda"), ValueError, ["'cuda'", "readable", "numpy"]),
    "a missing parameter": (lambda m: changed(m, W_l0=None), ValueError, ["missing: W_l0", "(3, "]),
    "an unknown parameter": (lambda m: changed(m, V=X), ValueError, ["unknown: V"]),
    "a misshapen parameter": (lambda m: changed(m, W_l0=X[0]), ValueError, ["W_l0", "(2, 3)"]),
    "all three": (lambda m: changed(m, b_l0=None, V=X, W_l0=X[0]), ValueError,
                  ["missing: b_l0", "unknown: V", "W_l0: ", "nothing was loaded"]),
    "parameters in words": (lambda m: changed(m, b_l0=np.full(m.b_l0.shape, "a")), ValueError,
                            ["b_l0", "nothing was loaded"]),
    "no dictionary": (lambda m: m.load_state_dict([X]), TypeError, ["state", "list"]),
}

# every constructor: the arguments, the error, words of the message
MAKES = {
    "no inputs": (lambda make: make(0, 5), ValueError, ["input_size", "1 or more", "got 0"]),
    "negative hidden size": (lambda make: make(3, -1), ValueError, ["hidden_size", "got -1"]),
    "half a unit": (lambda make: make(3, 4.5), ValueError, ["hidden_size", "integer", "4.5"]),
    "no layers": (lambda make: make(3, 5, 0), ValueError, ["num_layers", "got 0"]),
    "True layers": (lambda make: make(3, 5, True), ValueError, ["num_layers", "True"]),
    "sizes in words": (lambda make: make("3", 5), ValueError, ["input_size", "'3'"]),
    "dropout of 1": (lambda make: make(3, 5, 2, dropout=1.0), ValueError, ["below 1", "1.0"]),
    "negative dropout": (lambda make: make(3, 5, 2, dropout=-0.1), ValueError, ["0", "-0.1"]),
    "dropout NaN": (lambda make: make(3, 5, 2, dropout=np.nan), ValueError, ["dropout", "nan"]),
    "dropout in words": (lambda make: make(3, 5, 2, dropout="0.5"), ValueError,
                         ["dropout", "'0.5'"]),
    "dropout in one layer": (lambda make: make(3, 5, dropout=0.5), ValueError,
                             ["between layers", "one layer"]),
    "unknown init": (lambda make: make(3, 5, init="xavier"), ValueError,
                     ["'xavier'", "'orthogonal'", "'pytorch'", "function"]),
    "a number as init": (lambda make: make(3, 5, init=0.1), ValueError,
                         ["init", "function", "0.1"]),
    "init of another shape": (lambda make: make(3, 5, init=lambda *a: np.zeros(7)), ValueError,
                              ["(7,)", "W_l0", "(3, "]),
    "init of the transpose": (lambda make: make(3, 5, init=lambda n, s, r: np.zeros(s[::-1])),
                              ValueError, ["W_l0", "of shape (3, ", ", 3) float64"]),
    "init of one number": (lambda make: make(3, 5, init=lambda *a: 0.1), ValueError,
                           ["W_l0", "(3, ", "got ()"]),
    "init that returns nothing": (lambda make: make(3, 5, init=lambda *a: None), ValueError,
                                  ["W_l0", "(3, ", "object"]),
    "init in words": (lambda make: make(3, 5, init=lambda n, s, r: np.full(s, "a")), ValueError,
                      ["W_l0", "numbers", "<U1"]),
    "init of complex numbers": (lambda make: make(3, 5, init=lambda n, s, r: np.full(s, 1j)),
                                ValueError, ["W_l0", "complex"]),
    "init of NaN": (lambda make: make(3, 5, init=lambda n, s, r: np.full(s, np.nan)), ValueError,
                    ["W_l0", "finite", "NaN or infinity"]),
    "init of infinity in R": (lambda make: make(3, 5, init=lambda n, s, r: np.full(
        s, np.inf if n == "R" else 0)), ValueError, ["R_l0", "finite", "NaN or infinity"]),
    "no init": (lambda make: make(3, 5, init=None), ValueError, ["init", "function", "None"]),
    "a seed of 1.5": (lambda make: make(3, 5, seed=1.5), ValueError, ["seed", "1.5", "integer"]),
    "a negative seed": (lambda make: make(3, 5, seed=-1), ValueError, ["seed", "-1"]),
    "integers": (lambda make: make(3, 5, dtype="int32"), TypeError, ["floating-point", "int32"]),
    "complex parameters": (lambda make: make(3, 5, dtype=complex), TypeError,
                           ["floating-point", "complex"]),
    "directions in words": (lambda make: make(3, 5, bidirectional="no"), ValueError,
                            ["bidirectional", "True or False", "'no'"]),
    "two directions as a number": (lambda make: make(3, 5, bidirectional=2), ValueError,
                                   ["bidirectional", "True or False", "2"]),
    "a state to learn from": (lambda make: make(3, 5, learn_state=H0), ValueError,
                              ["learn_state", "True or False", "array"]),
    "a cell for the size": (lambda make: make(3, LSTMCell(5)), ValueError,
                            ["hidden_size", "integer", "LSTMCell"]),
    "an unknown option": (lambda make: make(3, 5, batch_first=True), TypeError, ["batch_first"]),
    "a step in two directions": (lambda make: make(3, 5, bidirectional=True).step(X[0]), ValueError,
                                 ["bidirectional", "step by step", "end"]),
}

def projected():
    return LSTM(3, 5, proj_size=2, seed=0, dtype=f4)


P0 = np.zeros((1, 2, 2), f4)

# what only one kind can get wrong
OWN = {
    "RNN": {
        "two states": (lambda m: m(X, (H0, H0)), ValueError,
                       ["1 array", "h (1, 2, 5)", "tuple of 2"]),
        "unknown nonlinearity": (lambda m: RNN(3, 5, nonlinearity="gelu"), ValueError,
                                 ["tanh, relu, identity", "'gelu'"]),
        "a function as nonlinearity": (lambda m: RNN(3, 5, nonlinearity=np.tanh), ValueError,
                                       ["tanh, relu, identity", "tanh"]),
        "a list of nonlinearities": (lambda m: RNN(3, 5, nonlinearity=["tanh"]), ValueError,
                                     ["tanh, relu, identity", "['tanh']"]),
        "a forget bias": (lambda m: RNN(3, 5, forget_bias=1.0), TypeError, ["forget_bias"]),
        "parameters of an LSTM": (lambda m: m.load_state_dict(layer_of("LSTM").state_dict()),
                                  ValueError, ["W_l0: (3, 20)", "expected (3, 5)",
                                               "nothing was loaded"]),
    },
    "LSTM": {
        "one array as state": (lambda m: m(X, H0), ValueError,
                               ["2 array", "h (1, 2, 5) and c (1, 2, 5)", "one ndarray"]),
        "h and c in one array": (lambda m: m(X, np.stack([H0, H0])), ValueError,
                                 ["2 array", "h (1, 2, 5) and c (1, 2, 5)", "one ndarray"]),
        "one Tensor as state": (lambda m: m(X, Tensor(H0)), ValueError, ["2 array", "one Tensor"]),
        "one array into step": (lambda m: m.step(X[0], H0), ValueError,
                                ["2 array", "h (1, 2, 5) and c (1, 2, 5)", "one ndarray"]),
        "a dictionary": (lambda m: m(X, {"h": H0, "c": H0}), ValueError, ["2 array", "one dict"]),
        "h alone in a list": (lambda m: m(X, [H0]), ValueError, ["2 array", "list of 1"]),
        "no c": (lambda m: m(X, (H0, None)), ValueError, ["state c", "(1, 2, 5)", "got ()"]),
        "no h": (lambda m: m(X, (None, H0)), ValueError, ["state h", "(1, 2, 5)", "got ()"]),
        "c of another batch": (lambda m: m(X, (H0, H0[:, :1])), ValueError,
                               ["state c", "(1, 2, 5)", "(1, 1, 5)"]),
        "c in float64": (lambda m: m(X, (H0, H0.astype("f8"))), TypeError,
                         ["state c", "float64", "float32"]),
        "a pair for each layer": (lambda m: LSTM(3, 5, 2, dtype=f4)(X, [(H0, H0), (H0, H0)]),
                                  ValueError, ["state h", "(2, 2, 5)", "(2, 1, 2, 5)"]),
        "c of the size of h": (lambda m: projected()(X, (P0, P0)), ValueError,
                               ["state c", "(1, 2, 5)", "got (1, 2, 2)"]),
        "h of the size of c": (lambda m: projected()(X, (H0, H0)), ValueError,
                               ["state h", "(1, 2, 2)", "got (1, 2, 5)"]),
        "one state of two sizes": (lambda m: projected()(X, P0), ValueError,
                                   ["h (1, 2, 2) and c (1, 2, 5)", "one ndarray"]),
        "proj_size as large as H": (lambda m: LSTM(3, 5, proj_size=5), ValueError,
                                    ["proj_size", "smaller than hidden_size=5", "got 5"]),
        "proj_size above H": (lambda m: LSTM(3, 5, proj_size=8), ValueError,
                              ["smaller than hidden_size=5", "got 8"]),
        "negative proj_size": (lambda m: LSTM(3, 5, proj_size=-1), ValueError,
                               ["proj_size", "1 or more", "-1"]),
        "proj_size 2.5": (lambda m: LSTM(3, 5, proj_size=2.5), ValueError, ["integer", "2.5"]),
        "proj_size in words": (lambda m: LSTM(3, 5, proj_size="2"), ValueError,
                               ["proj_size", "'2'"]),
        "proj_size None": (lambda m: LSTM(3, 5, proj_size=None), ValueError,
                           ["proj_size", "integer", "None"]),
        "no proj_size": (lambda m: LSTM(3, 5, proj_size=[]), ValueError, ["proj_size", "[]"]),
        "proj_size of the cell": (lambda m: LSTMCell(5, 9), ValueError,
                                  ["smaller than hidden_size=5", "9"]),
        "a layer as cell": (lambda m: LSTM(3, 5, cell=LSTM(3, 5)), TypeError, ["cell", "LSTMCell"]),
        "a cell that is made": (lambda m: LSTM(3, 5, cell=PeepholeLSTM(5)), TypeError,
                                ["cell must be LSTMCell or a subclass", "PeepholeLSTM object"]),
        "the name of a cell": (lambda m: LSTM(3, 5, cell="peephole"), TypeError,
                               ["cell must be LSTMCell", "'peephole'"]),
        "a cell of another kind": (lambda m: LSTM(3, 5, cell=GRUCell), TypeError,
                                   ["cell must be LSTMCell", "GRUCell", "Recurrent(input_size"]),
        "no cell": (lambda m: LSTM(3, 5, cell=None), TypeError, ["cell must be LSTMCell", "None"]),
        "forget_bias in words": (lambda m: LSTM(3, 5, forget_bias="1"), ValueError,
                                 ["forget_bias", "number", "'1'"]),
        "forget_bias None": (lambda m: LSTM(3, 5, forget_bias=None), ValueError,
                             ["forget_bias", "number", "None"]),
        "forget_bias NaN": (lambda m: LSTM(3, 5, forget_bias=np.nan), ValueError,
                            ["forget_bias", "finite", "nan"]),
        "forget_bias infinite": (lambda m: LSTM(3, 5, forget_bias=-np.inf), ValueError,
                                 ["forget_bias", "finite", "-inf"]),
        "forget_bias for each unit": (lambda m: LSTM(3, 5, forget_bias=np.ones(5)), ValueError,
                                      ["forget_bias", "number", "array"]),
        "a nonlinearity": (lambda m: LSTM(3, 5, nonlinearity="relu"), TypeError, ["nonlinearity"]),
        "without peepholes": (lambda m: LSTM(3, 5, cell=PeepholeLSTM).load_state_dict(
            m.state_dict()), ValueError, ["missing: p_l0 (15,)", "nothing was loaded"]),
        "with peepholes": (lambda m: m.load_state_dict(LSTM(3, 5, cell=PeepholeLSTM).state_dict()),
                           ValueError, ["unknown: p_l0"]),
        "three gates": (lambda m: m.load_state_dict(LSTM(3, 5, cell=CoupledLSTM).state_dict()),
                        ValueError, ["W_l0: (3, 15)", "expected (3, 20)"]),
        "without a projection": (lambda m: projected().load_state_dict(m.state_dict()), ValueError,
                                 ["missing: W_hr_l0 (5, 2)", "R_l0: (5, 20)", "(2, 20)"]),
    },
    "GRU": {
        "two states": (lambda m: m(X, (H0, H0)), ValueError,
                       ["1 array", "h (1, 2, 5)", "tuple of 2"]),
        "reset_after in words": (lambda m: GRU(3, 5, reset_after="no"), ValueError,
                                 ["reset_after", "True or False", "'no'"]),
        "reset_after None": (lambda m: GRU(3, 5, reset_after=None), ValueError,
                             ["reset_after", "True or False", "None"]),
        "reset_after for each unit": (lambda m: GRU(3, 5, reset_after=np.ones(5) > 0), ValueError,
                                      ["reset_after", "True or False", "array"]),
        "a projection": (lambda m: GRU(3, 5, proj_size=2), TypeError, ["proj_size"]),
        "without b_hn": (lambda m: m.load_state_dict(GRU(3, 5, reset_after=False).state_dict()),
                         ValueError, ["missing: b_hn_l0 (5,)", "nothing was loaded"]),
        "with b_hn": (lambda m: GRU(3, 5, reset_after=False).load_state_dict(m.state_dict()),
                      ValueError, ["unknown: b_hn_l0", "nothing was loaded"]),
        "one bias of 4H": (lambda m: changed(m, b_l0=np.zeros(20)), ValueError,
                           ["b_l0", "(20,)", "(15,)"]),
    },
}

# a layer of any cell
LAYERS = {
    "a class": (lambda: Recurrent(3, LSTMCell), TypeError, ["cell must be a Cell", "LSTMCell"]),
    "a size": (lambda: Recurrent(3, 5), TypeError, ["cell must be a Cell", "ElmanCell(5)", "5"]),
    "a layer": (lambda: Recurrent(3, GRU(3, 5)), TypeError, ["cell must be a Cell", "GRU object"]),
    "a cell of no size": (lambda: Recurrent(3, GRUCell(0)), ValueError, ["hidden_size", "0"]),
    "a cell of words": (lambda: Recurrent(3, ElmanCell("5")), ValueError, ["hidden_size", "'5'"]),
    "no inputs": (lambda: Recurrent(0, GRUCell(5)), ValueError, ["input_size", "got 0"]),
}


def assert_refused(call, argument, error, words):
    with pytest.raises(error) as caught:
        call(argument)
    assert caught.type is error
    missing = [w for w in words if w not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


def layer_of(kind):
    return KINDS[kind].make(3, 5, seed=0, dtype=f4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_law9_a_wrong_call_is_named(kind, name, fresh_library):
    layer = layer_of(kind)
    before = layer.state_dict()
    assert_refused(CALLS[name][0], layer, *CALLS[name][1:])
    assert all((v == before[k]).all() for k, v in layer.state_dict().items())
    layer(X, None, [4, 2])[0].sum().backward()  # and the layer works as before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MAKES)
def test_law9_a_wrong_layer_is_named(kind, name, fresh_library):
    assert_refused(MAKES[name][0], KINDS[kind].make, *MAKES[name][1:])


@pytest.mark.parametrize("kind, name", [(k, n) for k, own in OWN.items() for n in own])
def test_law9_a_wrong_call_of_one_kind_is_named(kind, name, fresh_library):
    assert_refused(OWN[kind][name][0], layer_of(kind), *OWN[kind][name][1:])


@pytest.mark.parametrize("name", LAYERS)
def test_law9_a_wrong_cell_is_named(name, fresh_library):
    call, error, words = LAYERS[name]
    assert_refused(lambda _: call(), None, error, words)


def gpu(a):
    with using("cupy"):
        return sys.modules["cupy"].asarray(a)


MIXTURES = {
    "x on the GPU": lambda m: m(gpu(X)),
    "x and lengths on the GPU": lambda m: m(gpu(X), None, [4, 2]),
    "the state on the GPU": lambda m: m(X, state(m, gpu(H0))),
    "the last state on the GPU": lambda m: m(X, (*as_list(state(m, H0))[:-1], gpu(H0))),
    "a Tensor on the GPU": lambda m: m(Tensor(gpu(X))),
    "one step on the GPU": lambda m: m.step(gpu(X[0])),
    "the state of a step on the GPU": lambda m: m.step(X[0], state(m, gpu(H0))),
    "under no_grad": lambda m: predict(m, gpu(X)),
    "the readout": lambda m: Linear(3, 1, dtype=f4)(gpu(X)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MIXTURES)
def test_law9_arrays_on_two_devices_are_refused_by_name(kind, name, double):
    with using("numpy"):
        layer = layer_of(kind)
        with pytest.raises(DeviceError, match="(?s)CPU.*GPU.*to_device|GPU.*CPU.*to_device"):
            MIXTURES[name](layer)


@pytest.mark.parametrize("kind", KINDS)
def test_law9_lengths_on_the_gpu_are_refused(kind, double):
    with pytest.raises(TypeError, match=re.escape("on the host")):
        layer_of(kind)(gpu(X), None, gpu(np.array([4, 2])))


@pytest.mark.parametrize("kind", KINDS)
def test_law9_what_looks_odd_but_is_right(kind, fresh_library):
    layer = layer_of(kind)
    y = np.asarray(layer(X)[0])
    for x in (X.tolist(), [row for row in X], np.asfortranarray(X), X[::-1][::-1],
              np.lib.stride_tricks.as_strided(X, X.shape, X.strides, writeable=False)):
        assert np.allclose(np.asarray(layer(x)[0]), y, atol=1e-6)
    for lengths in ((4, 4), np.array([4, 4], "uint8"), Lengths([4, 4]), [4, 4]):
        assert np.allclose(np.asarray(layer(X, None, lengths)[0]), y, atol=1e-6)
    assert isinstance(layer, Module) and np.isfinite(y).all()
