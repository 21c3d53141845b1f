"""Write `cupy_api.json`: CuPy's public names and signatures, read from the real package.

Run by hand after each upgrade of CuPy, where `pip install cupy-cuda13x` works; needs no GPU:

    python freeze_api.py
"""

import ast
import inspect
import json
import pathlib
import re
import sys
import warnings

HERE = pathlib.Path(__file__).resolve().parent
TYPED = re.compile(r"\b(?:_ndarray_base|Py_ssize_t|size_t|intptr_t|bint|bool|int|str|tuple) (?=\w)")

NAMED = re.compile(r"=(?!None|True|False)[A-Za-z_][\w.]*")  # a default that is a name


def literal(text: str) -> str:
    "`text` where it is a Python literal, `...` where it names an object."
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return "..."
    return text


def from_signature(sig: inspect.Signature) -> str:
    "The parameters as source text without annotations; defaults that are no literals become `...`."
    plain = []
    for p in sig.parameters.values():
        has = p.default is not p.empty
        plain.append(p.replace(
            annotation=p.empty, default=_Text(literal(repr(p.default))) if has else p.empty))
    return str(sig.replace(parameters=plain, return_annotation=sig.empty))[1:-1]


class _Text:
    "A default that prints as its text."

    def __init__(self, text): self.text = text
    def __repr__(self): return self.text


def parameters(f) -> str | None:
    "The parameters of `f`, from Python or from the line Cython leaves in the docstring."
    try:
        return from_signature(inspect.signature(f))
    except (TypeError, ValueError):
        pass
    line = ((f.__doc__ or "").strip().splitlines() or [""])[0]
    found = re.match(r"^[\w.]+\((.*)\)(?: ->.*)?$", line)
    if not found:
        return None
    try:
        made = eval(f"lambda {NAMED.sub('=...', TYPED.sub('', found[1]))}: 0", {})
    except SyntaxError:
        return None
    return from_signature(inspect.signature(made))


def describe(name: str, v) -> str:
    "One name of a module as text, such as `ufunc 2 1 add` or `def a, axis=None`."
    import cupy
    import numpy

    if isinstance(v, cupy.ufunc):
        return f"ufunc {v.nin} {v.nout} {v._scatter_op or ''}".rstrip()
    if type(v).__name__ == "_GUFunc":
        return "def " + from_signature(inspect.signature(v))
    if isinstance(v, type) and issubclass(v, numpy.generic):
        try:
            return "dtype " + numpy.dtype(v).name
        except TypeError:
            return "type"
    if isinstance(v, type):
        return "type"
    if inspect.ismodule(v):
        return "module"
    if isinstance(v, (bool, float)) or v is None:
        return f"value {v}"
    if callable(v):
        text = parameters(v)
        return "def " + ("*args, **kwargs" if text is None else text)
    return "object"


def public(owner) -> dict[str, str]:
    return {n: describe(n, getattr(owner, n)) for n in dir(owner) if not n.startswith("_")}


def methods(cls) -> dict[str, str]:
    "The methods and properties of a class; `self` is left out."
    found = {}
    for n in dir(cls):
        if n.startswith("_"):
            continue
        text = parameters(getattr(cls, n)) if callable(getattr(cls, n)) else None
        found[n] = "property" if text is None else "def " + re.sub(r"^self(, /)?(, )?", "", text)
    return found


def packed(api: dict) -> str:
    "JSON with as many entries on a line as fit in 100 characters."
    blocks = []
    for key, value in sorted(api.items()):
        if isinstance(value, str):
            blocks.append(f"{json.dumps(key)}: {json.dumps(value)}")
            continue
        items = [json.dumps({k: v})[1:-1] for k, v in value.items()] \
            if isinstance(value, dict) else [json.dumps(v) for v in value]
        lines = [""]
        for item in items:
            if lines[-1] and len(lines[-1]) + len(item) > 97:
                lines.append("")
            lines[-1] += item + ", "
        ends = "{}" if isinstance(value, dict) else "[]"
        text = "\n".join(line.rstrip() for line in lines).rstrip(",")
        blocks.append(f"{json.dumps(key)}: {ends[0]}\n{text}\n{ends[1]}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> None:
    warnings.simplefilter("ignore")
    # This folder has modules named array and cuda, which CuPy must not meet.
    sys.path[:] = [p for p in sys.path if pathlib.Path(p).resolve() != HERE]
    import cupy
    import cupyx
    import cupyx.profiler

    gemm = "transa, transb, a, b, out=None, alpha=1.0, beta=0.0"  # imports only beside cuBLAS
    runtime = {n: v for n, v in public(cupy.cuda.runtime).items() if v != "object"
               and not re.match("cuda[A-Z]", n)}
    api = {
        "version": cupy.__version__,
        "cupy": public(cupy),
        "cupy.linalg": public(cupy.linalg),
        "cupy.random": public(cupy.random),
        "cupy.cublas": {"gemm": "def " + gemm},
        "cupy.cuda": public(cupy.cuda),
        "cupy.cuda.runtime": runtime,
        "cupyx": public(cupyx),
        "cupyx.profiler": public(cupyx.profiler),
        "ndarray": methods(cupy.ndarray),
        "ndarray dunders": sorted(n for n in dir(cupy.ndarray) if n.startswith("__")),
        "Generator": methods(cupy.random.Generator),
        "Stream": methods(cupy.cuda.Stream),
        "Event": methods(cupy.cuda.Event),
        "Device": methods(cupy.cuda.Device),
        "MemoryPool": methods(cupy.cuda.MemoryPool),
        "MemoryPointer": methods(cupy.cuda.MemoryPointer),
        "RawKernel": methods(cupy.RawKernel),
        "RawModule": methods(cupy.RawModule),
        "Flags": methods(cupy._core.flags.Flags),
    }
    path = HERE / "cupy_api.json"
    path.write_text(packed(api))
    print({k: len(v) for k, v in api.items()})


if __name__ == "__main__":
    main()
