"""`cupy.cuda` as far as it is offered: one pretended GPU, streams and events without effect."""

import contextlib
import time

from . import array
from .api import API, missing
from .machine import CUDARuntimeError, no_gpu, state, tally

MEMORY = 16 * 2**30


def is_available() -> bool:
    return state.gpus > 0


class Device:
    def __init__(self, device=None):
        if device is None:
            tally()
        self.id = int(device or 0)

    def __int__(self): return self.id
    def __eq__(self, other): return isinstance(other, Device) and self.id == other.id
    def __hash__(self): return hash(self.id)
    def __repr__(self): return f"<CUDA Device {self.id}>"

    def __enter__(self):
        tally()
        return self

    def __exit__(self, *_): pass
    def use(self): tally()
    def synchronize(self): tally(sync=1)

    @property
    def compute_capability(self) -> str:
        tally()
        return "90"

    @property
    def mem_info(self) -> tuple[int, int]:
        return memGetInfo()


class Stream:
    "Everything runs at once and in order; `synchronize` is counted."

    null = None

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        tally()
        self.is_non_blocking, self.priority = non_blocking, priority or 0
        self.ptr = 0 if null else 1

    def __enter__(self):
        _streams.append(self)
        return self

    def __exit__(self, *_):
        _streams.pop()

    def use(self):
        _streams[-1:] = [self]
        return self

    def synchronize(self): tally(sync=1)
    def wait_event(self, event): tally()
    def is_capturing(self): return False
    done = property(lambda self: True)

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def begin_capture(self, mode=None):
        raise NotImplementedError("the double cannot capture a graph")

    end_capture = begin_capture


Stream.null = Stream.__new__(Stream)
Stream.null.is_non_blocking, Stream.null.priority, Stream.null.ptr = False, 0, 0
_streams = [Stream.null]


def get_current_stream(device_id=-1) -> Stream:
    return _streams[-1]


class Event:
    "Records the host's clock; the times mean nothing for a GPU."

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        tally()
        self.time = None

    def record(self, stream=None): self.time = time.perf_counter()
    def synchronize(self): tally(sync=1)
    done = property(lambda self: True)


def get_elapsed_time(start_event, end_event) -> float:
    return 1000 * (end_event.time - start_event.time)


class MemoryPool:
    "Counts the bytes of live arrays; nothing is kept for reuse."

    def __init__(self, allocator=None):
        self._limit = 0

    def used_bytes(self) -> int:
        tally()
        return state.used

    def total_bytes(self) -> int:
        return self.used_bytes()

    def free_bytes(self) -> int: return 0
    def n_free_blocks(self) -> int: return 0
    def free_all_blocks(self, stream=None) -> None: tally()
    def get_limit(self) -> int: return self._limit
    def set_limit(self, size=None, fraction=None): self._limit = size or int(MEMORY * fraction)


class PinnedMemoryPool:
    def n_free_blocks(self) -> int: return 0
    def free_all_blocks(self) -> None: pass


pool, pinned_pool = MemoryPool(), PinnedMemoryPool()


def getDeviceCount() -> int:
    return state.gpus or no_gpu()


def driverGetVersion() -> int:
    return state.driver


def runtimeGetVersion() -> int:
    return 13020


def getDeviceProperties(device: int) -> dict:
    tally()
    if not 0 <= device < state.gpus:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal", 101)
    return {"name": b"double of a GPU (NumPy)", "totalGlobalMem": MEMORY, "major": 9, "minor": 0,
            "multiProcessorCount": 132, "warpSize": 32, "maxThreadsPerBlock": 1024,
            "sharedMemPerBlock": 49152, "sharedMemPerBlockOptin": 232448, "l2CacheSize": 52428800,
            "sharedMemPerMultiprocessor": 233472, "regsPerBlock": 65536, "clockRate": 1980000,
            "cooperativeLaunch": 1, "maxGridSize": (2**31 - 1, 65535, 65535)}


def getDevice() -> int:
    tally()
    return 0


def setDevice(device: int) -> None:
    getDeviceProperties(device)


def deviceSynchronize() -> None:
    tally(sync=1)


def streamSynchronize(stream) -> None:
    tally(sync=1)


def memGetInfo() -> tuple[int, int]:
    tally()
    return MEMORY - state.used, MEMORY


def profilerStart() -> None: tally()
def profilerStop() -> None: tally()


@contextlib.contextmanager
def time_range(message, color_id=None, argb_color=None, sync=False):
    yield


RUNTIME = [getDeviceCount, driverGetVersion, runtimeGetVersion, getDeviceProperties, getDevice,
           setDevice, deviceSynchronize, streamSynchronize, memGetInfo, profilerStart, profilerStop,
           CUDARuntimeError]
CUDA = [is_available, Device, Stream, get_current_stream, Event, get_elapsed_time, MemoryPool,
        PinnedMemoryPool, array.MemoryPointer]


def runtime_names() -> dict:
    found = {n: missing("cupy.cuda.runtime", n) for n in API["cupy.cuda.runtime"]}
    return {**found, **{f.__name__: f for f in RUNTIME}}


def cuda_names() -> dict:
    found = {n: missing("cupy.cuda", n) for n, v in API["cupy.cuda"].items()
             if v.startswith(("def", "type"))}
    return {**found, **{f.__name__: f for f in CUDA}}
