"""Chapter 04: checkpoints. Whatever stops a run, the resumed run is the same run, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import arrays_in
from hypothesis import given, settings as hypothesis_settings
from hypothesis import strategies as st

from rnntext.autograd import Tensor
from rnntext.backend import asarray, fresh, generator, is_device, stack, tanh, to_host, using
from rnntext.learn import (
    SGD,
    Adam,
    AdamW,
    Batches,
    Checkpoint,
    CheckpointError,
    Dropout,
    Linear,
    Module,
    NonFiniteGradientError,
    RMSProp,
    cosine_decay,
    fit,
    linear_warmup,
    load_checkpoint,
    mean_squared_error,
    save_checkpoint,
)

pytestmark = pytest.mark.usefixtures("fresh_library")

OPTIMISERS = {
    "SGD": lambda m: SGD(m, 0.05),
    "Nesterov": lambda m: SGD(m, 0.01, momentum=0.9, nesterov=True, clip_value=0.5),
    "RMSProp": lambda m: RMSProp(m, 0.003, clip=1.0),
    "Adam": lambda m: Adam(m, 0.01, clip=1.0, schedule=linear_warmup(7, cosine_decay(40))),
    "AdamW": lambda m: AdamW(m, 0.01, weight_decay=0.1),
}


class Net(Module):
    "Dropout, a tied layer, and a generator of its own that draws in every call."

    def __init__(self, hidden=7, noise=True):
        self.first, self.last = Linear(3, hidden, seed=1), Linear(hidden, 1, seed=2)
        self.middle = self.again = Linear(hidden, hidden, seed=3)
        self.drops = [Dropout(0.3), Dropout(0.2)]  # seeds of their own
        if noise:
            self.rng = generator(5)

    def forward(self, x):
        scale = 1.0
        if self.training and hasattr(self, "rng"):
            scale = float(self.rng.uniform(0.9, 1.1))
        h = self.drops[0](tanh(self.first(x))) * scale
        return self.last(self.drops[1](tanh(self.again(self.middle(h)))))


def mse(model, x, y):
    return mean_squared_error(model(x), y)


def data(n, seed, **options):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3)).astype("f4")
    y = np.sin(x.sum(1, keepdims=True)) + 0.3 * rng.standard_normal((n, 1)).astype("f4")
    return Batches(x, y.astype("f4"), batch_size=5, **options)


class Stopped(Exception):
    pass


def run(path=None, optimiser="Adam", stop=None, epochs=8, patience=None, every=None,
        validation=True):
    "A whole run from nothing, or one that stops before a step; everything that it made."
    fresh(seed=4)
    model = Net()
    chosen = OPTIMISERS[optimiser](model)

    def loss(m, x, y):
        if m.training and chosen.steps == stop:
            raise Stopped
        return mse(m, x, y)
    history = fit(model, data(23, 0), loss, epochs=epochs, optimiser=chosen,
                  validation=data(11, 1) if validation else None, patience=patience,
                  progress=False, checkpoint=path, every=every)
    return state(model, chosen, history)


def state(model, optimiser, history=None):
    return {**{k: v.copy() for k, v in model.state_dict().items()},
            **{s: to_host(getattr(optimiser, s)).copy() for s in optimiser.slots},
            "steps": optimiser.steps, "calls": [d.calls for d in model.drops],
            "seeds": [d.seed for d in model.drops],
            "rng": str(model.rng.bit_generator.state) if hasattr(model, "rng") else "",
            "history": str(vars(history)) if history else ""}


def same(a, b):
    assert a.keys() == b.keys()
    for k in a:
        assert np.array_equal(np.asarray(a[k]), np.asarray(b[k])), k


# --- resuming inside one process

@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("stop, every", [(0, 1), (1, 1), (4, 1), (5, 1), (6, 3), (17, 3), (22, 5),
                                         (22, None), (39, 7)])
def test_a_resumed_run_is_the_same_run(optimiser, stop, every, tmp_path, backend):
    path = tmp_path / "run.safetensors"
    with pytest.raises(Stopped):
        run(path, optimiser, stop, every=every)
    assert path.exists() == (stop >= (every or 5))
    same(run(path, optimiser, every=every), run(None, optimiser))


def test_stopped_many_times(tmp_path):
    path = tmp_path / "run.safetensors"
    for stop in (3, 4, 5, 9, 10, 11, 25, 26, 39):
        with pytest.raises(Stopped):
            run(path, stop=stop, every=1)
    same(run(path, every=1), run())


@pytest.mark.parametrize("every", [None, 1, 4, 1000])
def test_saving_changes_nothing(every, tmp_path, backend):
    same(run(tmp_path / "a.safetensors", every=every), run())


@pytest.mark.parametrize("stop", [2, 14, 31])
def test_early_stopping_and_the_best_parameters_are_resumed(stop, tmp_path):
    path, whole = tmp_path / "run.safetensors", run(epochs=60, patience=4)
    assert "nothing better for 4 epochs" in whole["history"]
    with pytest.raises(Stopped):
        run(path, stop=stop, epochs=60, patience=4, every=1)
    same(run(path, epochs=60, patience=4, every=1), whole)


def test_a_finished_run_stays_as_it_is_and_can_be_made_longer(tmp_path):
    path = tmp_path / "run.safetensors"
    first = run(path, epochs=4)
    before = path.read_bytes()
    same(run(path, epochs=4), first)
    assert path.read_bytes() == before
    same(run(path, epochs=9), run(epochs=9))
    path.unlink()
    run(path, epochs=60, patience=2)
    same(run(path, epochs=60, patience=5), run(epochs=60, patience=5))


def test_without_validation(tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(Stopped):
        run(path, stop=13, every=2, validation=False)
    same(run(path, every=2, validation=False), run(validation=False))


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 40), st.booleans())
def test_batches_go_on_where_they_were(n, size, taken, shuffle):
    def stream(batches):
        while True:
            yield from (b[0].tolist() for b in batches)
    options = {"batch_size": size, "shuffle": shuffle, "seed": 3}
    whole = stream(Batches(np.arange(n), **options))
    expected = [next(whole) for _ in range(taken + 10)]
    first = Batches(np.arange(n), **options)
    begun = stream(first)
    for _ in range(taken):
        next(begun)
    position = json.loads(json.dumps(first.position()))
    second = Batches(np.arange(n), **options | {"seed": 8})
    next(stream(second))  # it was used for something else
    second.seek(position)
    resumed = stream(second)
    # a position at the very end of a pass: nothing is left of it
    assert [next(resumed) for _ in range(10)] == expected[taken:]


def test_a_pass_that_is_given_up_leaves_no_trace():
    a, b = (Batches(np.arange(20), batch_size=3, seed=1) for _ in range(2))
    next(iter(a))
    list(b)
    assert a.position() == b.position()
    assert [x[0].tolist() for x in a] == [x[0].tolist() for x in b]


def test_one_loader_need_not_stand_in_a_tuple(tmp_path):
    path, first, second = tmp_path / "a.safetensors", data(23, 0), data(23, 1)
    list(first)
    save_checkpoint(path, Linear(1, 1), batches=first)
    load_checkpoint(path, Linear(1, 1), batches=second)
    assert second.position() == first.position()


def test_positions_of_other_batches_are_refused():
    position = Batches(np.arange(20), batch_size=3).position()
    for other, words in ((Batches(np.arange(21), batch_size=3), "examples is 21 here, 20 there"),
                         (Batches(np.arange(20), batch_size=4), "batch_size is 4 here, 3 there"),
                         (Batches(np.arange(20), batch_size=3, shuffle=False), "shuffle is False"),
                         (Batches(np.arange(20), batch_size=3,
                                  seed=np.random.Generator(np.random.MT19937(0))), "MT19937")):
        with pytest.raises(ValueError, match=f"the position belongs to other batches: .*{words}"):
            other.seek(position)


def test_other_generators(tmp_path):
    "MT19937 keeps its state in an array."
    path, found = tmp_path / "a.safetensors", []
    for _ in range(2):
        batches = Batches(np.arange(20), batch_size=3,
                          seed=np.random.Generator(np.random.MT19937(len(found))))
        model = Linear(2, 2)
        if found:
            load_checkpoint(path, model, batches=(batches,))
        else:
            list(batches)
            save_checkpoint(path, model, batches=(batches,))
        found.append([b[0].tolist() for b in batches])
    assert found[0] == found[1]


# --- devices

def test_the_double_and_numpy_write_the_same(tmp_path, fresh_library):
    found = {}
    for place in ("numpy", "double"):
        with arrays_in(place):
            fresh(seed=4)
            with using("numpy" if place == "numpy" else "cupy"):
                model = Net()
                adam = OPTIMISERS["Adam"](model)
                fit(model, data(23, 0), mse, epochs=2, optimiser=adam, progress=False)
                assert is_device(adam.m) == (place == "double")
                save_checkpoint(tmp_path / place, model, adam)
                found[place] = state(model, adam)
                other = Net()
                again = OPTIMISERS["Adam"](other)
                load_checkpoint(tmp_path / place, other, again)
                assert is_device(again.m) == (place == "double")
                same(state(other, again), found[place])
    with using("numpy"):  # a file from the GPU, read on the CPU
        model = Net()
        adam = OPTIMISERS["Adam"](model)
        load_checkpoint(tmp_path / "double", model, adam)
        same(state(model, adam), found["double"])


def test_only_saving_copies_to_the_host(tmp_path, double):
    def traffic(**options):
        fresh(seed=4)
        with using("cupy"):
            model = Net(noise=False)
            adam = Adam(model, 0.01)
            batches = data(20, 0)
            fit(model, batches, mse, epochs=1, optimiser=adam, progress=False)
            with double.counting() as c:
                fit(model, batches, mse, epochs=3, optimiser=adam, progress=False, **options)
            return c
    without = traffic()
    assert without.d2h == without.sync == 2 * 3
    each = len(Net().parameters()) - 2  # the tied layer once
    saving = traffic(checkpoint=tmp_path / "a.safetensors")
    assert saving.d2h <= without.d2h + 3 * (each + 4) and saving.h2d == without.h2d


# --- what is in a file

def test_what_is_saved_comes_back(tmp_path, backend):
    model = Linear(3, 2, seed=0)
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, model, arrays={"m": asarray(np.arange(6.0).reshape(2, 3)), "s": 2.5},
                    record={"epoch": 3, "loss": [0.1, float("nan"), float("inf")], "w": "ä"})
    other = Linear(3, 2, seed=1)
    found = load_checkpoint(str(path), other)
    assert isinstance(found, Checkpoint) and found.steps == 0
    assert found.record["epoch"] == 3 and found.record["w"] == "ä"
    assert str(found.record["loss"]) == "[0.1, nan, inf]"
    assert found.arrays["m"].tolist() == [[0, 1, 2], [3, 4, 5]] and found.arrays["s"].shape == ()
    assert set(found.versions) == {"rnntext", "numpy", "python"}
    assert (to_host(other.W) == to_host(model.W)).all()
    assert not list(tmp_path.glob("*.part"))


def test_loading_is_in_place_and_the_model_alone_will_do(tmp_path):
    model, other, path = Net(), Net(), tmp_path / "a.safetensors"
    adam = Adam(model)
    fit(model, data(10, 0), mse, epochs=1, optimiser=adam, progress=False)
    save_checkpoint(path, model, adam, batches=(data(10, 0),))
    arrays = [p.data for p in other.parameters().values()]
    assert load_checkpoint(path, other).steps == 2
    assert all(p.data is a for p, a in zip(other.parameters().values(), arrays, strict=True))
    assert other.drops[0].calls == model.drops[0].calls == 2
    third = Net()
    optimiser = Adam(third)
    flat = optimiser.flat
    load_checkpoint(path, third, optimiser)
    assert optimiser.flat is flat and flat.in_use()


def test_going_back_to_a_checkpoint_thaws_the_optimiser(tmp_path, backend):
    "A bad step freezes the parameters; a checkpoint holds none, so the run goes on from it."
    model, path = Linear(3, 1, seed=0), tmp_path / "a.safetensors"
    adam = Adam(model, 0.1)
    save_checkpoint(path, model, adam)
    for gradient in (np.nan, 1.0):
        model.W.grad = asarray(np.full((3, 1), gradient, "f4"))
        adam.step()
    with pytest.raises(NonFiniteGradientError, match="step 1"):
        adam.check()
    load_checkpoint(path, model, adam)
    adam.check()
    before = to_host(model.W).copy()
    model.W.grad = asarray(np.ones((3, 1), "f4"))
    adam.step()
    adam.check()
    assert adam.steps == 1 and (to_host(model.W) < before).all()


def test_any_reader_of_safetensors_reads_it(tmp_path):
    from safetensors.numpy import load_file

    model = Net()
    save_checkpoint(tmp_path / "a.safetensors", model, Adam(model))
    tensors = load_file(tmp_path / "a.safetensors")
    assert (tensors["model.first.W"] == to_host(model.first.W)).all()
    assert {k.split(".")[0] for k in tensors} == {"model", "optimiser"}
    assert not any("again" in k for k in tensors)  # a tied parameter once


def test_shapes_without_axes_and_without_entries(tmp_path):
    class Odd(Module):
        def __init__(self, value):
            self.a = Tensor(np.full((), value, "f4"))
            self.b = Tensor(np.full((0, 3), value, "f4"))
            self.c = Tensor(np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3) * value))
    one, two = Odd(2.0), Odd(3.0)
    save_checkpoint(tmp_path / "a", one)
    load_checkpoint(tmp_path / "a", two)
    assert float(two.a) == 2 and (two.c.data == one.c.data).all() and two.a.shape == ()


# --- what is refused

def saved(path, **options):
    model = Net()
    optimiser = Adam(model, 0.01)
    save_checkpoint(path, model, optimiser, batches=(data(23, 0),), **options)
    return model, optimiser


def refused(path, words, model=None, optimiser=None, **options):
    model = model or Net()
    made = optimiser(model) if optimiser else None
    before = state(model, made) if made else model.state_dict()
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path, model, made, **options)
    assert str(path) in str(error.value)
    for word in [words] if isinstance(words, str) else words:
        assert word in str(error.value), str(error.value)
    same(state(model, made) if made else model.state_dict(), before)


def test_damaged_files(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path)
    good = path.read_bytes()
    for content in (b"", b"abc", good[:100], good[:-1], good + b"x", b"\xff" * 200,
                    b"PK\x03\x04" + good):
        path.write_bytes(content)
        refused(path, "is not a whole safetensors file")
    for at in (-1, -200, -1000):
        flipped = bytearray(good)
        flipped[at] ^= 4
        path.write_bytes(flipped)
        refused(path, "is damaged: the check sum of")
    path.write_bytes(good)
    load_checkpoint(path, Net())
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none", Net())


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    path = tmp_path / "a.safetensors"
    model, _ = saved(path)
    good, expected, rng = path.read_bytes(), model.state_dict(), random.Random(0)
    for at in [*range(0, 60), *(rng.randrange(len(good)) for _ in range(300))]:
        flipped = bytearray(good)
        flipped[at] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        other = Net()
        try:
            load_checkpoint(path, other, Adam(other, 0.01))
        except CheckpointError:
            continue
        same(other.state_dict(), expected)  # a blank between entries


def test_files_of_others(tmp_path):
    from safetensors.numpy import save

    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"W": np.ones(3)}))
    refused(path, "not a checkpoint of rnntext")
    text = json.dumps({"format": 99, "versions": "9.9"})
    path.write_bytes(save({"W": np.ones(3)}, {"rnntext": text}))
    refused(path, "the check sum of the header is wrong")
    path.write_bytes(save({"W": np.ones(3)},
                          {"rnntext": text, "crc32": str(zlib.crc32(text.encode()))}))
    refused(path, "has format 99, this program reads up to 1; it was written by 9.9")


def test_other_models(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path)
    refused(path, ["model.first.W: (3, 7) float32, expected (3, 8) float32", "nothing was loaded"],
            Net(hidden=8))
    refused(path, "model.first.W: (3, 7) float32, expected (3, 7) float64",
            Net().to(dtype="float64"))
    bigger, untied = Net(), Net()
    bigger.extra, untied.again = Linear(1, 1), Linear(7, 7)
    refused(path, ["missing: model.extra.W (1, 1)", "missing: model.extra.b"], bigger)
    refused(path, "missing: model.again.W (7, 7)", untied)
    refused(path, ["unknown: model.first.W", "missing: model.W (3, 7)"], Linear(3, 7))
    refused(path, "module '': counters ['rng'], expected None", Net(noise=False))
    fewer = Net()
    fewer.drops.pop()
    refused(path, "module 'drops.1': counters ['calls', 'seed'], expected None", fewer)


def test_other_optimisers_and_batches(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path)
    refused(path, "optimiser Adam, expected SGD", optimiser=SGD)
    refused(path, "optimiser Adam, expected AdamW", optimiser=AdamW)
    refused(path, "optimiser Adam: learning_rate is 0.01, expected 0.001", optimiser=Adam)
    refused(path, "optimiser Adam: betas is [0.9, 0.999], expected [0.5, 0.9]",
            optimiser=lambda m: Adam(m, 0.01, betas=(0.5, 0.9)))
    refused(path, "optimiser Adam: clip is None, expected 2",
            optimiser=lambda m: Adam(m, 0.01, clip=2))
    refused(path, "positions of 1 batches, expected 2", batches=(data(23, 0), data(23, 0)))
    refused(path, "batches 0: examples is 22 here, 23 there", batches=(data(22, 0),))
    save_checkpoint(path, Net())
    refused(path, "optimiser None, expected Adam", optimiser=Adam)


def test_what_saving_refuses(tmp_path):
    path, model = tmp_path / "a.safetensors", Net()
    with pytest.raises(ValueError, match="belongs to another model"):
        save_checkpoint(path, model, Adam(Net()))
    with pytest.raises(FileNotFoundError, match="no folder .*none for the checkpoint a"):
        save_checkpoint(tmp_path / "none" / "a", model)
    with pytest.raises(TypeError, match="a record holds what JSON can, got a object"):
        save_checkpoint(path, model, record={"x": object()})
    with pytest.raises(IsADirectoryError):
        save_checkpoint(tmp_path, model)
    with pytest.raises(IsADirectoryError, match="is a folder; a checkpoint is a file"):
        load_checkpoint(tmp_path, model)
    for wrong in ("abc", np.array([None]), np.array([1j])):
        with pytest.raises(TypeError, match=r"holds numbers only, not arrays.a \("):
            save_checkpoint(path, model, arrays={"a": wrong, "b": 1.0})
    adam = Adam(model)
    model.first.W.grad = np.full((3, 7), np.nan, "f4")
    adam.step()
    with pytest.raises(NonFiniteGradientError, match="step 1 .* first.W"):
        save_checkpoint(path, model, adam)
    assert not path.exists()


def test_what_fit_refuses(tmp_path):
    path = tmp_path / "a.safetensors"
    go = lambda **o: fit(Net(), data(23, 0), mse, epochs=2, progress=False, **o)  # noqa: E731
    with pytest.raises(ValueError, match="every needs a checkpoint"):
        go(every=3)
    for every in (0, -1, 1.5):
        with pytest.raises(ValueError, match="every must be an integer of 1 or more"):
            go(checkpoint=path, every=every)
    saved(path)
    with pytest.raises(CheckpointError, match="a.safetensors was not written by fit"):
        go(checkpoint=path)
    path.unlink()
    go(checkpoint=path)
    with pytest.raises(CheckpointError, match="positions of 1 batches, expected 2"):
        go(checkpoint=path, validation=data(5, 0))
    with pytest.raises(CheckpointError, match="optimiser Adam, expected RMSProp"):
        model = Net()
        fit(model, data(23, 0), mse, epochs=2, checkpoint=path, optimiser=RMSProp(model))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="a.safetensors is not a whole"):
        go(checkpoint=path)


def test_a_link_keeps_leading_to_the_file(tmp_path):
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "a.safetensors", tmp_path / "latest"
    link.symlink_to(real)
    save_checkpoint(link, Linear(2, 2))
    save_checkpoint(link, Linear(2, 2))
    assert link.is_symlink() and real.is_file()


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    path, model = tmp_path / "a.safetensors", Linear(2, 2, seed=0)
    save_checkpoint(path, model)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    model.W.data += 1
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, model)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


# --- killed

SCRIPT = textwrap.dedent("""
    import os, signal, sys
    import numpy as np
    sys.path.insert(0, {tests!r})
    import test_checkpoint as here
    from rnntext import learn

    path, kill, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    if kill:  # at the n-th call: 'half' written, 'before' the new name, 'after' it
        where, n = kill.split(":")
        fsync, replace, count = os.fsync, os.replace, [0]

        def dies(here):
            count[0] += 1
            return here == where and count[0] >= int(n)

        def half(fd):
            if where == "half" and not os.path.isdir(f"/proc/self/fd/{{fd}}") and dies("half"):
                os.ftruncate(fd, os.fstat(fd).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(fd)

        def renamed(a, b):
            if where == "before" and dies("before"):
                os.kill(os.getpid(), signal.SIGKILL)
            replace(a, b)
            if where == "after" and dies("after"):
                os.kill(os.getpid(), signal.SIGKILL)
        os.fsync, os.replace = half, renamed
    if seconds:  # slow steps and slow writes, so that a kill from outside meets both
        import time
        fsync, mse = os.fsync, here.mse
        os.fsync = lambda fd: (time.sleep(seconds), fsync(fd))
        here.mse = lambda *a: (time.sleep(seconds), mse(*a))[1]
    found = here.run(path, every=1, epochs=6)
    found["steps"] = np.asarray(found["steps"])
    np.savez(path + ".npz", **{{k: np.asarray(v) for k, v in found.items()}})
""")


def start(folder, kill="", seconds=0.0):
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with open(folder / "errors.txt", "w") as errors:
        return subprocess.Popen([sys.executable, script, folder / "run.safetensors", kill,
                                 str(seconds)], env=env, stderr=errors)


def ended(folder):
    process = start(folder)
    assert process.wait(60) == 0, (folder / "errors.txt").read_text()
    with np.load(folder / "run.safetensors.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return ended(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kill", ["half:1", "half:2", "half:9", "before:1", "before:6", "after:1",
                                  "after:12"])
def test_killed_during_a_write(kill, tmp_path, uninterrupted):
    process, n = start(tmp_path, kill), int(kill.split(":")[1])
    assert process.wait(60) == -signal.SIGKILL, (tmp_path / "errors.txt").read_text()
    path = tmp_path / "run.safetensors"
    former = n if kill.startswith("after") else n - 1
    assert path.exists() == (former > 0)
    if former:
        assert load_checkpoint(path, Net()).steps == former  # whole, and nothing lost
    same(ended(tmp_path), uninterrupted)


def test_killed_at_random_moments(tmp_path, uninterrupted):
    rng, steps, kills = random.Random(os.environ.get("RNNTEXT_KILLS", "0")), 0, 0
    while kills < 6:
        process = start(tmp_path, seconds=0.01)
        path = tmp_path / "run.safetensors"
        known = path.stat().st_mtime_ns if path.exists() else 0
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:  # wait for it to get going
            if path.exists() and path.stat().st_mtime_ns != known:
                break
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.12))
        process.send_signal(signal.SIGKILL)
        if process.wait(60) == 0:
            break
        kills += 1
        now = load_checkpoint(path, Net()).steps
        assert now >= steps
        steps = now
    assert kills >= 3 and steps > 0
    same(ended(tmp_path), uninterrupted)


def test_stack_of_losses_is_the_same_mean():
    "What the mean of an epoch is made of, in two parts and whole."
    losses = [asarray(np.float32(v)) for v in np.random.default_rng(0).standard_normal(20)]
    whole = to_host(stack(losses))
    parts = np.concatenate([to_host(stack(losses[:7])), to_host(stack(losses[7:]))])
    assert whole.mean() == parts.mean() and parts.dtype == whole.dtype
