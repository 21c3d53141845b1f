"""What every test may ask for: a library as if just imported, a device, the data beside it."""

import contextlib
import importlib.util
import os
from pathlib import Path

import cupy_double
import hypothesis
import pytest

from rnntext import backend as library

ROOT = Path(__file__).resolve().parents[1]
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
# The same examples in every run; `pytest --hypothesis-profile=default` draws others.
hypothesis.settings.load_profile("repeatable")
PLACES = ["numpy", "double"] + ["cupy"] * (importlib.util.find_spec("cupy") is not None)


@pytest.fixture
def fresh_library():
    "Settings read again, choices dropped, seed 0; afterwards everything as before."
    names = ("_settings", "_chosen", "_sequence", "_precision")
    kept = {name: getattr(library, name) for name in names}
    block, tf32 = library._block.get(), os.environ.get("CUPY_TF32")
    library.fresh(seed=0)
    yield
    library._block.set(block)
    for name, value in kept.items():
        setattr(library, name, value)
    if tf32 is None:
        os.environ.pop("CUPY_TF32", None)
    else:
        os.environ["CUPY_TF32"] = tf32


def _search_again():
    library.find_gpu.cache_clear()
    library._auto.cache_clear()


@contextlib.contextmanager
def arrays_in(place: str):
    "Arrays are born in NumPy, on the double of CuPy, or on a real GPU."
    if place == "double":
        cupy_double.install()
        _search_again()
    elif place == "cupy" and not library.gpu_available():
        pytest.skip(f"no GPU: {library.find_gpu().problem}")
    try:
        with library.using("numpy" if place == "numpy" else "cupy"):
            yield place
    finally:
        if place == "double":
            cupy_double.uninstall()
            _search_again()


@pytest.fixture(params=PLACES)
def backend(request, fresh_library):
    "The name of the place where this test's arrays are born."
    with arrays_in(request.param):
        yield request.param


@pytest.fixture
def double(fresh_library):
    "Arrays are born on the double of CuPy."
    with arrays_in("double"):
        yield cupy_double


@pytest.fixture
def shared_data():
    "The folder with copies of the public data sets; RNNTEXT_SHARED_DATA names another."
    folder = Path(os.environ.get("RNNTEXT_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: RNNTEXT_SHARED_DATA names the one with the data")
    return folder
