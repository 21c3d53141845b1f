"""Every chapter with `backend = cupy` and nothing else changed, on the double of CuPy.

It finds host arrays where a GPU would refuse them, functions that CuPy lacks, and Tensors that
stayed on the CPU. `fit` trains for one epoch only: the double is slow, and the second epoch does
what the first did. It is a double: what passes here is no evidence of a run on a GPU.
"""

import sys
from pathlib import Path

import pytest
from conftest import ROOT, arrays_in

sys.path.insert(0, str(ROOT))
from benchmarks import gpu
from rnntext import forecast, learn

CHAPTERS = sorted(Path(ROOT, "nbs").glob("*.ipynb"))


@pytest.fixture
def one_epoch(monkeypatch):
    "Training stops after the first epoch, also inside the modules that train."
    fit = learn.fit
    for module in (learn, forecast):
        monkeypatch.setattr(module, "fit", lambda *a, **options: fit(*a, **options | {"epochs": 1}))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_runs_with_arrays_of_cupy(path, fresh_library, one_epoch):
    with arrays_in("double"):
        assert gpu.chapter(path) == ""
