"""Every chapter with `backend = cupy` and nothing else changed, on the double of CuPy.

It finds host arrays where a GPU would refuse them, functions that CuPy lacks, and Tensors that
stayed on the CPU. It is a double: what passes here is no evidence of a run on a GPU.
"""

import sys
from pathlib import Path

import pytest
from conftest import ROOT, arrays_in

sys.path.insert(0, str(ROOT))
from benchmarks import gpu

CHAPTERS = sorted(Path(ROOT, "nbs").glob("*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_runs_with_arrays_of_cupy(path, fresh_library):
    with arrays_in("double"):
        assert gpu.chapter(path) == ""
