"""Times of functions that are to be compared, taken in turns in one process.

The machines these run on are noisy: only ratios within one run mean something. So every round
calls each function once, and the ratio is the median over the rounds.
"""

import statistics
import time
from collections.abc import Callable


def compare(
    functions: dict[str, Callable[[], object]],  # the first is what the others are compared with
    seconds: float = 2.0,  # about how long to go on
    finish: Callable[[], object] = lambda: None,  # waits for a device
) -> dict[str, dict[str, float]]:  # name -> milliseconds (median), ratio to the first (median)
    """Call the functions in turns; a ratio above 1 means faster than the first."""
    for f in functions.values():
        f()
        finish()
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds) < 5:
        row = []
        for f in functions.values():
            start = time.perf_counter()
            f()
            finish()
            row.append(time.perf_counter() - start)
        rounds.append(row)
    return {
        name: {
            "ms": round(1e3 * statistics.median(r[i] for r in rounds), 4),
            "ratio": round(statistics.median(r[0] / r[i] for r in rounds), 3),
        }
        for i, name in enumerate(functions)
    }
