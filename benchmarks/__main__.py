"""`make bench`: the recurrences side by side on the CPU, with one BLAS thread."""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy is imported

from rnntext.backend import using  # noqa: E402

from .recurrences import measure  # noqa: E402

with using("numpy"):
    measure()
