"""Chapter 00: settings, detection, birth of arrays, dispatch, random numbers, checks, results."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import cupy_double
import numpy as np
import pytest
from conftest import arrays_in
from hypothesis import given
from hypothesis import strategies as st

from rnntext import backend as library
from rnntext.autograd import Tensor
from rnntext.backend import (
    BackendError,
    DeviceError,
    SettingsError,
    add_at,
    arange,
    asarray,
    checker,
    clip,
    concatenate,
    describe,
    empty,
    fresh,
    generator,
    gpu_module,
    is_device,
    keep_mask,
    load_results,
    matmul,
    maximum,
    namespace,
    on_gpu,
    ones,
    raw_module,
    read_settings,
    relu,
    save_result,
    set_backend,
    settings,
    sigmoid,
    stack,
    standard_normal,
    table,
    tanh,
    to_device,
    to_host,
    using,
    where,
    zeros,
)

pytestmark = pytest.mark.usefixtures("fresh_library")
KNOWN = "backend, dtype, precision, seed, scale, data, offline"
NO_CUPY = importlib.util.find_spec("cupy") is None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "The working directory, two levels deep; no settings from outside."
    for name in [n for n in os.environ if n.startswith("RNNTEXT_")]:
        monkeypatch.delenv(name)
    inner = tmp_path / "project" / "nbs"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return inner


def write(where_: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (where_ / "settings.ini").write_bytes(data)


# --- settings

def test_defaults_where_there_is_no_file(folder):
    now = read_settings()
    assert (now.backend, now.dtype, now.precision, now.seed) == ("numpy", "float32", "ieee", 0)
    assert (now.scale, now.data, now.offline) == ("quick", "", False)
    assert set(now.origin.values()) == {"default"} and ", ".join(now.origin) == KNOWN


@pytest.mark.parametrize("text, found", [
    ("[rnntext]\nseed = 7\n", {"seed": 7}),
    ("\ufeff[rnntext]\nseed = 7\n", {"seed": 7}),  # a byte order mark
    ("[rnntext]\r\nseed = 7\r\noffline = Yes\r\n", {"seed": 7, "offline": True}),
    ("[rnntext]\ndata = /a/50%/%(home)s/b\n", {"data": "/a/50%/%(home)s/b"}),
    ("[DEFAULT]\nlib_name = x\nseed = 9\n[rnntext]\ndata =\n", {"seed": 0, "data": ""}),
    ("[other]\nx = 1\n\n[rnntext]\nSeed: 7  \ndtype = float64\n", {"seed": 7, "dtype": "float64"}),
    ("; first\n  [rnntext]\n# a\nscale = full\n", {"scale": "full"}),
    ("[rnntext]\n", {"seed": 0}),
    ("[rnntext]\ndata = /tmp/données\n", {"data": "/tmp/données"}),
])
def test_files_that_are_read(folder, text, found):
    write(folder, text)
    now = read_settings()
    assert {k: getattr(now, k) for k in found} == found
    for key in found:
        named = key.lower() in text.lower().split("[rnntext]")[1]
        assert now.origin[key] == (str(folder / "settings.ini") if named else "default")


@pytest.mark.parametrize("text, said", [
    ("[rnntext]\nbakend = cupy\n", ["unknown setting 'bakend'", KNOWN]),
    ("[rnntext]\nseeed = 1\nscle = 2\n", ["'scle', 'seeed'", KNOWN]),
    ("[rnntext]\nbackend = gpu\n", ["backend = 'gpu'", "one of numpy, cupy, auto"]),
    ("[rnntext]\nbackend =\n", ["backend = ''", "one of numpy, cupy, auto"]),
    ("[rnntext]\nbackend = CUPY\n", ["backend = 'CUPY'", "one of numpy, cupy, auto"]),
    ("[rnntext]\ndtype = float16\n", ["dtype = 'float16'", "one of float32, float64"]),
    ("[rnntext]\nprecision = fp32\n", ["'fp32'", "one of ieee, tf32"]),
    ("[rnntext]\nscale = big\n", ["'big'", "one of quick, full"]),
    ("[rnntext]\nseed = -1\n", ["'-1'", "an integer, 0 or above"]),
    ("[rnntext]\nseed = 1.5\n", ["'1.5'", "an integer"]),
    ("[rnntext]\nseed =\n", ["seed = ''", "an integer"]),
    ("[rnntext]\noffline = perhaps\n", ["'perhaps'", "yes or no"]),
    ("[rnntext]\nseed = 1\nseed = 2\n", ["cannot be read", "already exists"]),
    ("[rnntext]\nseed = 1\n[rnntext]\nseed = 2\n", ["cannot be read", "already exists"]),
    ("[rnntext]\nseed\n", ["cannot be read", "seed"]),
    ("x = 1\n[rnntext]\n", ["cannot be read", "no section headers"]),
    (b"[rnntext]\ndata = caf\xe9\n", ["cannot be read", "utf-8"]),
])
def test_files_that_are_refused_by_name(folder, text, said):
    write(folder, text)
    with pytest.raises(SettingsError) as error:
        read_settings()
    for words in [str(folder / "settings.ini"), *said]:
        assert words in str(error.value)


@pytest.mark.parametrize("foreign", [
    "[DEFAULT]\nlib_name = other\n",
    "# [rnntext] is not used here\n[tool]\nx = 1\n",
    "[tool]\nnote = see [rnntext]\n",
    "no section at all, and = no sense\n\n = \n",
    b"[tool]\nname = caf\xe9\n",
    b"\x00\xff\xfe",
    "",
])
def test_files_of_others_are_passed_over(folder, foreign):
    write(folder, foreign)
    write(folder.parent, "[rnntext]\nseed = 5\n")
    assert read_settings().seed == 5
    assert read_settings().origin["seed"] == str(folder.parent / "settings.ini")


def test_the_nearest_file_counts_and_alone(folder):
    write(folder.parent, "[rnntext]\nseed = 5\nscale = full\n")
    write(folder, "[rnntext]\nseed = 6\n")
    assert (read_settings().seed, read_settings().scale) == (6, "quick")


def test_a_folder_of_that_name_is_no_file(folder):
    (folder / "settings.ini").mkdir()
    assert read_settings().seed == 0


def test_the_environment_goes_before_the_file(folder, monkeypatch):
    write(folder, "[rnntext]\nseed = 5\nscale = full\n")
    monkeypatch.setenv("RNNTEXT_SEED", " 8 ")
    monkeypatch.setenv("RNNTEXT_SCALE", "")  # empty: as if it were not there
    now = read_settings()
    assert (now.seed, now.scale) == (8, "full")
    assert "RNNTEXT_SEED" in now.origin["seed"]
    monkeypatch.setenv("RNNTEXT_DTYPE", "float8")
    with pytest.raises(SettingsError, match="RNNTEXT_DTYPE: expected one of float32, float64"):
        read_settings()


def test_settings_are_read_once_and_fresh_reads_again(folder):
    fresh()
    write(folder, "[rnntext]\nseed = 5\ndtype = float64\n")
    assert settings().seed == 0 and zeros(2).dtype == "float32"
    fresh()
    assert settings().seed == 5 and zeros(2).dtype == "float64"
    with pytest.raises(AttributeError):
        settings().seed = 3


def test_order_of_what_decides(folder, monkeypatch):
    "Argument, block, set_backend, environment, file, default: each beats all that follow."
    with cupy_double.installed():
        library.find_gpu.cache_clear()
        place = lambda: "cupy" if is_device(zeros(2)) else "numpy"  # noqa: E731
        fresh()
        seen = [place()]
        write(folder, "[rnntext]\nbackend = cupy\n")
        fresh()
        seen.append(place())
        monkeypatch.setenv("RNNTEXT_BACKEND", "numpy")
        fresh()
        seen.append(place())
        set_backend("cupy")
        seen.append(place())
        with using("numpy"):
            seen.append(place())
            device = to_device([1.0]) if place() == "cupy" else sys.modules["cupy"].ones(2)
            assert is_device(zeros(2, like=device)) and is_device(tanh(device))
            with using("cupy"):
                assert place() == "cupy"
            with using("auto"):
                assert place() == "cupy"
        assert seen == ["numpy", "cupy", "numpy", "cupy", "numpy"] and place() == "cupy"
        with pytest.raises(KeyError), using("numpy"):
            raise KeyError
        assert place() == "cupy"
        fresh()
        assert place() == "numpy"
    library.find_gpu.cache_clear()
    library._auto.cache_clear()


def test_unknown_backend():
    for choose in (set_backend, lambda name: using(name).__enter__()):
        with pytest.raises(BackendError, match="unknown backend 'torch': expected 'numpy', 'cupy'"):
            choose("torch")
    assert library.backend() == "numpy"


# --- is there a GPU?

@pytest.fixture
def machine():
    "A machine with the parts that are asked for."
    def make(**parts):
        cupy_double.install(**parts)
        library.find_gpu.cache_clear()
        library._auto.cache_clear()
        return library.find_gpu()
    yield make
    cupy_double.uninstall()
    library.find_gpu.cache_clear()
    library._auto.cache_clear()


MACHINES = [
    (dict(broken="import"), ["CuPy is not installed", "rnntext[gpu]", "rnntext[gpu12]"]),
    (dict(gpus=0), ["no NVIDIA driver", "nvidia-smi"]),
    (dict(gpus=0, driver=13000), ["no GPU is visible", "CUDA_VISIBLE_DEVICES"]),
    (dict(broken="nvrtc"), ["CUDA library does not load", "libnvrtc", "rnntext[gpu]"]),
    (dict(broken="cublas"), ["CUDA library does not load", "libcublasLt", "rnntext[gpu]"]),
]


@pytest.mark.parametrize("parts, said", MACHINES, ids=lambda x: str(x)[:24])
def test_each_missing_part_has_its_message(machine, parts, said, capsys):
    found = machine(**parts)
    assert found.cupy is None and not library.gpu_available()
    assert all(words in found.problem for words in said) and "\n" not in found.problem
    others = [w[0] for p, w in MACHINES if p != parts and w[0] != said[0]]
    assert not any(words in found.problem for words in others)
    for ask in (lambda: set_backend("cupy"), lambda: using("cupy").__enter__()):
        with pytest.raises(BackendError) as error:
            ask()
        assert found.problem in str(error.value) and "set_backend('numpy')" in str(error.value)
    assert library.backend() == "numpy"
    for ask in (gpu_module, lambda: gpu_module("cupyx.distributed"), lambda: raw_module("x")):
        with pytest.raises(BackendError) as error:
            ask()
        assert found.problem in str(error.value)
    assert on_gpu(lambda: 1 / 0) is None
    out = capsys.readouterr().out
    assert found.problem in out and out.count("\n") == 1
    set_backend("auto")
    set_backend("auto")
    with using("auto"):
        assert library.backend() == "numpy"
    err = capsys.readouterr().err
    assert err == f"rnntext: backend auto took numpy. {found.problem}\n"


def test_the_search_runs_once(machine, monkeypatch):
    cupy = cupy_double.install()
    asked = []
    count = cupy.cuda.runtime.getDeviceCount
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: asked.append(1) or count())
    library.find_gpu.cache_clear()
    for _ in range(3):
        with using("cupy"):
            zeros(2)
    assert asked == [1] and library.find_gpu().problem == ""


def test_a_driver_that_fails(machine, monkeypatch):
    def broken():
        raise cupy_double.CUDARuntimeError("cudaErrorInitializationError: no luck\n", 3)
    cupy = cupy_double.install()
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", broken)
    library.find_gpu.cache_clear()
    assert "driver does not work: cudaErrorInitializationError: no luck. Check that nvidia-smi" in (
        library.find_gpu().problem)


def test_a_cupy_that_does_not_load(tmp_path, monkeypatch):
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy/__init__.py").write_text("raise ValueError('numpy.dtype size changed')\n")
    monkeypatch.syspath_prepend(tmp_path)
    library.find_gpu.cache_clear()
    problem = library.find_gpu().problem
    library.find_gpu.cache_clear()
    assert problem.startswith("CuPy does not load (numpy.dtype size changed)")


def test_auto_takes_the_gpu_and_says_so_once(machine, capsys):
    machine()
    set_backend("auto")
    with using("auto"):
        assert is_device(zeros(2))
    assert capsys.readouterr().err == "rnntext: backend auto took cupy.\n"
    assert on_gpu(lambda: is_device(zeros(2))) is True
    assert gpu_module("cupyx") is sys.modules["cupyx"]
    assert raw_module("extern").code == "extern"


def test_precision_is_set_before_the_first_product_and_stays(folder, machine, monkeypatch):
    monkeypatch.delenv("CUPY_TF32", raising=False)
    write(folder, "[rnntext]\nprecision = tf32\n")
    fresh()
    machine()
    assert os.environ["CUPY_TF32"] == "1"
    write(folder, "[rnntext]\nprecision = ieee\nseed = 3\n")
    with pytest.raises(SettingsError, match="already ran with tf32.*Restart"):
        fresh()
    assert settings().precision == "tf32"  # what is really in force
    write(folder, "[rnntext]\nprecision = tf32\nseed = 3\n")
    fresh()
    assert settings().seed == 3


def interpreter(code: str, folder: Path, **variables) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith("RNNTEXT_")}
    env |= {"PYTHONPATH": str(Path(__file__).parent), **variables}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, text=True,
                          capture_output=True, timeout=60)


@pytest.mark.skipif(not NO_CUPY, reason="CuPy is installed")
def test_cupy_asked_for_and_not_installed(tmp_path):
    done = interpreter("from rnntext.backend import zeros; zeros(2)", tmp_path,
                       RNNTEXT_BACKEND="cupy")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.startswith("rnntext.backend.BackendError: backend 'cupy'")
    assert "CuPy is not installed" in last and "pip install 'rnntext[gpu]'" in last


def test_cupy_asked_for_and_no_gpu(tmp_path):
    write(tmp_path, "[rnntext]\nbackend = cupy\n")
    code = ("import cupy_double; cupy_double.install(gpus=0)\n"
            "from rnntext.rnn import RNN; RNN(2, 3)")
    done = interpreter(code, tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "BackendError" in last and "no NVIDIA driver" in last
    assert "backend = numpy in settings.ini" in last


def test_import_looks_for_nothing(tmp_path):
    write(tmp_path, "[rnntext]\nbackend = nonsense\n")
    code = ("import sys, rnntext.rnn as r, rnntext.backend as b\n"
            "print('cupy' in sys.modules, b.find_gpu.cache_info().currsize, b._settings)")
    done = interpreter(code, tmp_path)
    assert done.stdout == "False 0 None\n" and done.stderr == ""


# --- threads

def in_thread(f):
    found = []
    thread = threading.Thread(target=lambda: found.append(f()))
    thread.start()
    thread.join()
    return found[0]


def test_a_block_holds_for_its_thread_and_a_choice_for_all(machine):
    machine()
    with using("cupy"):
        assert (library.backend(), in_thread(library.backend)) == ("cupy", "numpy")
    set_backend("cupy")
    assert in_thread(library.backend) == "cupy"
    with using("numpy"):
        assert (library.backend(), in_thread(library.backend)) == ("numpy", "cupy")


def test_fresh_inside_a_block(machine):
    machine()
    with using("cupy"):
        fresh()
        assert library.backend() == "numpy"
    assert library.backend() == "numpy"


# --- mixed devices

@pytest.mark.parametrize("host", [np.ones((2, 3), "f4"), np.ones(1), np.array(2.0)],
                         ids=["matrix", "vector", "0-d"])
def test_mixed_devices_are_refused_and_both_are_named(double, host):
    device = ones((2, 3))
    shape = str(host.shape)
    for call in (lambda: maximum(device, host), lambda: maximum(host, device),
                 lambda: stack([device, host]), lambda: namespace([device], host),
                 lambda: where(device > 0, device, host), lambda: tanh(device, out=host),
                 lambda: matmul(device, b=host), lambda: add_at(device, 0, host)):
        with pytest.raises(DeviceError) as error:
            call()
        said = str(error.value)
        assert f"{shape} {host.dtype} on the CPU" in said and "(2, 3) float32 on the GPU" in said
        assert "to_device(a)" in said and "to_host(a)" in said


def test_numbers_follow_what_they_meet(double):
    device = ones((2, 3))
    for number in (1, 0.5, True, np.float32(0.5), np.int64(2)):
        assert is_device(maximum(device, number)) and is_device(where(device > 0, number, device))
    assert namespace(0.5) is sys.modules["cupy"] and namespace(np.ones(2)) is np
    with using("numpy"):
        assert namespace(0.5) is np and namespace(device) is sys.modules["cupy"]


def test_describe():
    assert describe(np.ones((2, 3))) == "(2, 3) float64 on the CPU"
    assert describe(np.float32(1)) == "() float32 on the CPU"
    assert describe([1, 2]) == "list [1, 2]" and describe(None) == "NoneType None"
    assert describe(Tensor(np.ones(2))) == "(2,) float64 on the CPU"
    with arrays_in("double"):
        assert describe(ones(2)) == describe(Tensor(ones(2))) == "(2,) float32 on the GPU"


# --- dispatch

x = np.random.default_rng(0).standard_normal((3, 4)).astype("f4")
y = np.random.default_rng(1).standard_normal((3, 4)).astype("f4")
CALLS = {
    **{name: [((x,), {})] for name in ("exp", "tanh", "sin", "cos", "floor", "sign", "isfinite",
                                       "isnan", "ravel", "zeros_like", "ones_like", "empty_like")},
    **{name: [((abs(x),), {})] for name in ("log", "log1p", "sqrt")},
    "maximum": [((x, y), {}), ((x, 0.25), {}), ((0, x), {}), ((x, np.float32(0.1)), {})],
    "minimum": [((x, y), {}), ((x, 0.25), {}), ((x, y[:, :1]), {})],
    "clip": [((x, -0.5, 0.5), {}), ((x, y - 1, y + 1), {}), ((x, None, 0), {})],
    "where": [((x > 0, x, y), {}), ((x > 0, x, 0.0), {}), ((x > 0, 1.5, x), {})],
    "logical_and": [((x > 0, y > 0), {})],
    "stack": [(([x, y],), {}), (((x, y),), {"axis": 1}), (([x],), {"axis": -1})],
    "concatenate": [(([x, y],), {}), (((x, y[:, :2]),), {"axis": 1})],
    "expand_dims": [((x, 1), {}), ((x, -1), {}), ((x, (0, 2)), {})],
    "broadcast_to": [((x, (2, 3, 4)), {})],
    "flip": [((x,), {}), ((x, 1), {}), ((x, (0, -1)), {})],
    "argmax": [((x,), {}), ((x, 1), {}), ((x > 0,), {"axis": 0})],
    "argsort": [((x,), {"axis": 0})],
    "cumsum": [((x,), {"axis": 0}), ((x, 1), {})],
    "matmul": [((x, y.T), {}), ((x[None], y.T), {})],
    "take_along_axis": [((x, np.array([[1], [0], [3]]), 1), {})],
    "ascontiguousarray": [((x.T,), {})],
}
WHITELIST = [n for n in library.__all__
             if (getattr(library, n).__doc__ or "").startswith(f"`numpy.{n}`")]


def placed(a):
    if isinstance(a, (list, tuple)):
        return type(a)(map(placed, a))
    return to_device(a) if isinstance(a, np.ndarray) else a


def test_every_function_of_the_list_is_tried():
    assert sorted(CALLS) == sorted(WHITELIST)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_functions_compute_where_the_arrays_are(name, backend):
    function = getattr(library, name)
    assert function.__name__ == name
    for args, options in CALLS[name]:
        got, expected = function(*placed(args), **options), getattr(np, name)(*args, **options)
        assert is_device(got) == (backend != "numpy")
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        if name != "empty_like":
            np.testing.assert_allclose(to_host(got), expected, rtol=2e-7 * (backend != "numpy"))


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"take_along_axis", "where", "stack"}))
def test_out_of_no_function_comes_float64(name, backend):
    for args, options in CALLS[name]:
        assert getattr(library, name)(*placed(args), **options).dtype != "float64"


def test_no_operator_makes_float64_of_float32(backend):
    a = to_device(abs(x))
    made = [a + 1, 1 - a, a * 0.5, 2 / a, a**2, a**-0.5, -a, abs(a), a @ a.T, a.sum() * 0.5,
            a.mean() + 1, a - a.mean(), sigmoid(a), relu(a), relu(a.sum()), 0.5 * sigmoid(a.sum()),
            zeros(2, like=a) + 0.1, ones(2) / 3, standard_normal(2), asarray([1.0, 2.0])]
    assert [m.dtype for m in made] == ["float32"] * len(made)
    assert all(is_device(m) == (backend != "numpy") for m in made)


def test_sigmoid_and_relu_do_not_overflow(backend):
    a = asarray([-1e4, -100.0, 0.0, 100.0, 1e4])
    assert to_host(sigmoid(a)).tolist() == [0, 0, 0.5, 1, 1]
    assert to_host(relu(a)).tolist() == [0, 0, 0, 100, 1e4]


class Taker:
    "Takes every call over."
    @staticmethod
    def __rnntext__(name, args, kwargs):
        return name, len(args), sorted(kwargs)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_hook_takes_over(name):
    t, function = Taker(), getattr(library, name)
    assert function(t) == (name, 1, [])
    assert function(1.0, t) == (name, 2, []) and function(x, t, axis=1) == (name, 2, ["axis"])
    assert function([x, t]) == function((t,)) == (name, 1, [])
    assert function(x, other=t) == (name, 1, ["other"])


def test_the_hook_of_sigmoid_and_relu():
    assert sigmoid(Taker()) == ("sigmoid", 1, []) and relu(Taker()) == ("relu", 1, [])


# --- birth and moves

def test_birth(backend):
    for make, value in ((zeros, 0), (ones, 1)):
        a = make((2, 3))
        assert is_device(a) == (backend != "numpy") and a.dtype == "float32"
        assert (to_host(a) == value).all() and a.shape == (2, 3)
        assert make(3, dtype="float64").dtype == make(3, like=zeros(1, dtype="float64")).dtype
        assert make((), like=a, dtype="int64").dtype == "int64"
    assert empty((2, 0)).shape == (2, 0)
    assert to_host(arange(4)).tolist() == [0, 1, 2, 3] and arange(4).dtype == "int64"


def test_like_a_tensor_is_where_the_tensor_is(double):
    t = Tensor(ones(3))
    with using("numpy"):
        assert is_device(zeros(2, like=t)) and is_device(arange(2, like=t)) and is_device(
            empty(2, like=t.data))
    host = Tensor(np.ones(3))
    assert not is_device(ones(2, like=host)) and ones(2, like=host).dtype == "float64"


def test_asarray(backend):
    assert asarray([1.0, 2.0]).dtype == asarray(0.5).dtype == "float32"
    assert asarray([1, 2]).dtype == "int64" and asarray([True]).dtype == "bool"
    assert asarray(np.ones(2)).dtype == "float64"  # an array keeps its type
    assert asarray([1, 2], dtype="float32").dtype == asarray(np.ones(2), "float32").dtype
    a = asarray([[1.0], [2.0]])
    assert asarray(a) is a and a.shape == (2, 1) and is_device(a) == (backend != "numpy")


class State(NamedTuple):
    h: object
    c: object


def test_to_host():
    a = np.ones(2)
    assert to_host(a) is a and to_host(Tensor(a)) is a
    pair = to_host((a, [Tensor(a), 2.0]))
    assert type(pair) is tuple and type(pair[1]) is list and pair[1][0] is a
    named = to_host(State(Tensor(a), (a, 1)))
    assert type(named) is State and named.h is a and named.c[1] == 1


@pytest.mark.parametrize("data", [None, "words", ["a"], {"a": 1}, np.array(["2012"], "M8[D]")])
def test_only_numbers_can_move(data, backend):
    for door in (asarray, to_device):
        with pytest.raises(TypeError, match="only numbers can move to a device, got"):
            door(data)


def test_like_must_be_an_array():
    for make in (zeros, ones, empty, arange):
        for like in ([1, 2], 3.0, "cpu"):
            with pytest.raises(TypeError, match="like must be an array or a Tensor, got"):
                make(3, like=like)


def test_moves_copy_once_and_only_if_needed(double):
    host = np.ones((2, 3), "f4")
    with double.counting() as c:
        device = to_device(host)
    assert (c.h2d, c.d2h, c.sync) == (1, 0, 0) and is_device(device) and device.dtype == "float32"
    with double.counting() as c:
        assert to_device(device) is device
        assert to_device(Tensor(device)) is device
    assert not any(c.as_dict().values())
    with double.counting() as c:
        back = to_host((device, Tensor(device)))
    assert (c.d2h, c.h2d) == (2, 0) and (back[0] == host).all() and (back[1] == host).all()
    with using("numpy"):
        assert isinstance(to_device(device), np.ndarray)
        assert to_device(host) is host and to_device(host, "float64").dtype == "float64"


def test_add_at_adds_repeated_indices(backend):
    a = zeros((3, 2))
    add_at(a, asarray([0, 2, 0]), ones((3, 2)))
    assert to_host(a).tolist() == [[2, 2], [0, 0], [1, 1]]


# --- random numbers

def test_generator():
    draw = lambda seed=None: generator(seed).random(3).tolist()  # noqa: E731
    assert draw(5) == draw(np.int64(5)) == np.random.default_rng(5).random(3).tolist()
    fresh(seed=1)
    first = [draw() for _ in range(3)]
    assert len({tuple(d) for d in first}) == 3
    draw(7)  # a seed of its own takes nothing from the sequence
    fresh(seed=1)
    assert [draw() for _ in range(3)] == first
    fresh(seed=2)
    assert draw() not in first
    rng = np.random.default_rng(0)
    assert generator(rng) is rng
    for wrong in (-1, True, 1.5, "1", np.float64(2)):
        for seeded in (generator, fresh):
            with pytest.raises(ValueError, match="seed, if not None, .* integer of 0 or more"):
                seeded(wrong)


def test_the_setting_seed_starts_the_process(folder):
    fresh()
    zero = generator().random()
    write(folder, "[rnntext]\nseed = 5\n")
    fresh()
    five = generator().random()
    fresh(seed=5)
    assert generator().random() == five != zero


def test_standard_normal_is_the_same_everywhere(backend):
    a = standard_normal((50, 20), seed=3)
    assert is_device(a) == (backend != "numpy") and a.dtype == "float32"
    expected = np.random.default_rng(3).standard_normal((50, 20)).astype("f4")
    assert (to_host(a) == expected).all()
    assert standard_normal(3, 3, dtype="float64").dtype == "float64"
    assert standard_normal((), 0).shape == ()
    with pytest.raises(TypeError, match="floating-point dtype, got int32"):
        standard_normal(3, 0, "int32")


def agreement(a, b) -> float:
    "How far the share of equal entries is from that of independent masks, in standard errors."
    p = (a.mean() + b.mean()) / 2
    expected = p * p + (1 - p) * (1 - p)
    return abs((a == b).mean() - expected) / math.sqrt(expected * (1 - expected) / a.size)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_masks_keep_their_rate_and_are_independent(rate):
    n = 200_000
    mask = keep_mask((n,), rate, seed=1, step=1)
    off = abs(mask.mean() - (1 - rate)) / math.sqrt(rate * (1 - rate) / n)
    assert mask.dtype == bool and off < 4
    for seed, step, layer in ((2, 1, 0), (1, 2, 0), (1, 1, 1), (0, 1, 0), (2**31 - 1, 1, 0),
                              (1, 10**6, 3)):
        other = keep_mask((n,), rate, seed, step, layer)
        assert agreement(mask, other) < 4, (seed, step, layer)
    for lag in (1, 2, 3, 4, 32, 64, 128, 1024, 65536):
        assert agreement(mask[lag:], mask[:-lag]) < 4, lag
    rows = keep_mask((400, 500), rate, 3, 7).astype(float)
    for axis in (0, 1):
        spread = rows.mean(axis).std() / math.sqrt(rate * (1 - rate) / rows.shape[axis])
        assert 0.85 < spread < 1.15


def test_seed_step_and_layer_do_not_stand_for_each_other():
    keys = [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    masks = {keep_mask((256,), 0.5, *k).tobytes() for k in keys}
    assert len(masks) == len(keys)


def test_masks_are_the_same_bits_on_the_double(double):
    with double.counting() as c:
        device = keep_mask((7, 5, 3), 0.3, 4, 9, 2, like=zeros(1))
    assert is_device(device) and c.h2d == c.d2h == c.sync == 0
    host = keep_mask((7, 5, 3), 0.3, 4, 9, 2, like=np.zeros(1))
    assert isinstance(host, np.ndarray) and (to_host(device) == host).all()


def test_mask_shapes_and_ends():
    assert keep_mask((), 0.5, 0, 0).shape == () and keep_mask((0, 3), 0.5, 0, 0).shape == (0, 3)
    flat = keep_mask((24,), 0.5, 0, 0)
    assert (keep_mask((4, 6), 0.5, 0, 0) == flat.reshape(4, 6)).all()
    assert keep_mask((100_000,), 0.0, 0, 0).all()
    assert not keep_mask((100_000,), 1 - 2**-53, 0, 0).any()
    for rate in (1, 1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="rate must be at least 0 and below 1"):
            keep_mask((2,), rate, 0, 0)
    for counter in ((-1, 0), (None, 0), (0, 1.5), (0, 0, "a"), (True, 0)):
        with pytest.raises(ValueError, match="(seed|step|layer) must be an integer of 0 or more"):
            keep_mask((2,), 0.5, *counter)


def test_at_rate_0_even_the_largest_number_is_kept(monkeypatch):
    monkeypatch.setattr(library, "_mix", lambda a: np.full_like(a, 2**32 - 1))
    assert keep_mask((5,), 0.0, 0, 0).all() and not keep_mask((5,), 1e-9, 0, 0).any()


# --- tables

def cells(shown: str) -> list[list[str]]:
    rows = [r.replace("\\|", "\0").strip("|").split("|") for r in shown.split("\n")]
    return [[c.strip().replace("\0", "|") for c in row] for row in rows]


def test_table():
    shown = table([["a|b", 1, 0.123456, np.float32(2)], ["two\nlines", 22, 1e-9, 3.5]],
                  ["n|m", "i", "x", "y"])
    head, line, *body = cells(repr(shown))
    assert head == ["n|m", "i", "x", "y"] and line == [":--", "--:", "--:", "--:"]
    assert body == [["a|b", "1", "0.123", "2"], ["two lines", "22", "1e-09", "3.5"]]
    assert repr(shown) == shown._repr_markdown_()
    assert cells(repr(table([[0.123456]], ["x"], digits=1)))[2] == ["0.1"]
    assert cells(repr(table([], ["x", "y"]))) == [["x", "y"], [":--", ":--"]]
    assert cells(repr(table([[None, float("nan")], ["", True]], ["a", "b"])))[2] == ["None", "nan"]


def test_ragged_tables_are_refused():
    with pytest.raises(ValueError, match=r"2 columns, but the row \[1\] has 1"):
        table([[1, 2], [1]], ["a", "b"])


# --- checks of exercises

def said(check, function, capsys) -> str:
    assert check(function) is None
    out = capsys.readouterr().out
    assert out.endswith("\n") and out.split(":")[0] in ("not yet", "right")
    return out.rstrip("\n")


def test_right_and_not_yet(capsys):
    check = checker([((2.0,), 4.0), ((np.arange(3.0),), np.array([0.0, 1.0, 4.0]))])
    assert said(check, lambda v: v * v, capsys) == "right: 2 of 2 cases agree"
    assert said(check, lambda v: None, capsys) == "not yet: expected 4.0, got None for (2.0)"
    assert said(check, lambda v: 2 * v, capsys) == (
        "not yet: expected [0., 1., 4.], got [0., 2., 4.] for ([0., 1., 2.])")
    assert "got ZeroDivisionError: division by zero" in said(check, lambda v: 1 / 0, capsys)
    assert "got TypeError" in said(check, lambda: 1, capsys)
    assert "got TypeError" in said(check, None, capsys)


@pytest.mark.parametrize("cases", [[], [(1, 2)], [((1,), 2, 3)], [[(1,), 2]]])
def test_cases_are_pairs(cases):
    with pytest.raises(TypeError, match="cases must be pairs .*at least one, got"):
        checker(cases)


class Fails:
    def __repr__(self):
        raise RuntimeError("no")

    __array__ = __len__ = __eq__ = __bool__ = lambda self, *a, **k: 1 / 0


WRONG = [None, "4", b"4", [1, 2], (np.ones(3), np.ones((2, 2))), {"a": 1}, {1, 2}, object(),
         Fails(), [Fails()], np.array(["a", "b"]), np.array([None, 1]), np.ones((3, 3)),
         np.array(1j), ..., float("nan"), float("inf"), int, len, Exception("given back"), (),
         iter([1]), slice(3), np.ma.masked, 10**400, np.datetime64("2020-01-01"),
         Tensor(np.ones((2, 2)))]


@pytest.mark.parametrize("expected", [4.0, np.arange(3.0), (np.ones(2), 1.0), "word", True,
                                      {"a": 2}, np.array([1, 5]), None],
                         ids=lambda e: type(e).__name__)
def test_checks_never_raise(expected, capsys):
    check = checker([((1,), expected)])
    for wrong in WRONG:
        if wrong is expected is None:
            continue
        assert said(check, lambda _, wrong=wrong: wrong, capsys).startswith("not yet: expected ")
    assert said(check, lambda _: expected, capsys).startswith("right")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=5)


@given(values, values)
def test_checks_take_any_value(expected, got):
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lines.append)
        checker([((got,), expected)])(lambda v: v)
    assert len(lines) == 1 and len(lines[0]) < 700


def test_what_agrees(capsys):
    def right(expected, got, **options):
        return said(checker([((), expected)], **options), lambda: got, capsys).startswith("right")
    assert right(1.0, 1 + 1e-7) and not right(1.0, 1 + 1e-5) and right(1.0, 1.01, tolerance=0.1)
    assert right(np.array([1e6, 1.0]), np.array([1e6, 1.5]))  # relative to the largest entry
    assert right(np.nan, np.nan) and not right(np.nan, 1.0) and not right(1.0, np.nan)
    assert right(np.array([np.inf, 1.0]), np.array([np.inf, 1.0]))
    assert not right(np.array([np.inf, 1.0]), np.array([np.inf, 5.0]))
    assert not right(np.inf, -np.inf) and not right(np.array([np.inf, 0.0]), np.array([0.0, 0.0]))
    assert not right(np.ones(3), np.ones((3, 1))) and not right(np.ones(3), 1.0)
    assert right((1.0, [2.0]), [1.0, (2.0,)]) and not right((1.0, 2.0), (1.0,))
    assert not right((1.0, 2.0), np.array([1.0, 2.0]))
    assert right(np.ones(2), Tensor(np.ones(2))) and right("a", "a") and not right("a", "b")
    assert right(True, np.True_) and right(3, np.int64(3)) and not right(3, 4)


def test_what_a_function_writes_into_its_arguments_does_not_stay(capsys):
    check = checker([((np.zeros(2), [1]), np.ones(2))])

    def careless(v, names):
        v += 1
        names.append(2)
        return v
    for _ in range(2):
        assert said(check, careless, capsys).startswith("right")


def test_long_values_are_shortened(capsys):
    out = said(checker([((list(range(10_000)), "x" * 5000), 1.0)]), lambda *a: "y" * 9000, capsys)
    assert len(out) < 800 and " ..." in out


def test_checks_on_the_double(double, capsys):
    assert said(checker([((ones(2),), np.ones(2))]), lambda v: v * 1, capsys).startswith("right")


# --- results

@pytest.fixture
def store(tmp_path, monkeypatch):
    made = tmp_path / "benchmarks" / "results"
    made.mkdir(parents=True)
    (tmp_path / "nbs").mkdir()
    monkeypatch.chdir(tmp_path / "nbs")
    return made


def save(value=1.0, name="rnn", **setting):
    return save_result(name, {"loss": value}, setting or {"hidden_size": 5}, [0], 1.26)


def test_results_are_stored_and_read(store):
    assert load_results("rnn") == []
    record = save(0.5, shape=(2, 3))
    assert load_results("rnn") == [record]
    assert {"scale", "setting", "values", "seeds", "seconds", "machine", "date", "commit",
            "versions"} <= set(record)
    assert record["seconds"] == 1.3 and record["versions"]["numpy"] == np.__version__
    assert len(record["date"]) == 10 and "cores" in record["machine"]
    assert [p.name for p in store.iterdir()] == ["rnn.json"]
    assert (store / "rnn.json").read_text().endswith("]\n")


def test_a_record_of_the_same_setting_is_replaced(store, folder, monkeypatch):
    monkeypatch.chdir(store)
    for value in (1.0, 2.0):
        save(value, shape=(2, 3), sizes={1: 2})
    save(3.0, shape=(2, 4), sizes={1: 2})
    assert [r["values"]["loss"] for r in load_results("rnn")] == [2.0, 3.0]
    monkeypatch.setenv("RNNTEXT_SCALE", "full")
    fresh()
    save(4.0, shape=(2, 3), sizes={1: 2})
    assert [(r["scale"], r["values"]["loss"]) for r in load_results("rnn")] == [
        ("quick", 2.0), ("quick", 3.0), ("full", 4.0)]
    save(5.0, name="lstm.v2")
    assert {p.name for p in store.iterdir()} == {"rnn.json", "lstm.v2.json"}


def test_a_failed_write_leaves_what_was_there(store, monkeypatch):
    save(1.0)
    before = (store / "rnn.json").read_text()
    with pytest.raises(TypeError):
        save(np.zeros(2))  # no plain number
    assert (store / "rnn.json").read_text() == before

    def full(self, *args, **kwargs):
        raise OSError("disk full")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="disk full"):
        save(2.0)
    assert json.loads((store / "rnn.json").read_text())[0]["values"] == {"loss": 1.0}


def test_without_the_folder_results_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (lambda: load_results("rnn"), save):
        with pytest.raises(FileNotFoundError, match="no folder benchmarks/results upwards from"):
            call()


# --- the functions of the text, as they are told

def test_list_and_keyword_arguments(backend):
    a = to_device(x)
    assert concatenate((a, a), axis=0).shape == (6, 4)
    assert is_device(clip(a, -1, 1)) == (backend != "numpy")
    out = zeros((3, 4))
    assert tanh(a, out=out) is out
