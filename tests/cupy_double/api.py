"""CuPy's frozen names and signatures, as callable checks."""

import functools
import inspect
import json
import pathlib

API = json.loads((pathlib.Path(__file__).parent / "cupy_api.json").read_text())


def kind(section: str, name: str) -> tuple[str, str]:
    "What `name` is in CuPy (`def`, `ufunc`, `dtype`, ...) and the text that goes with it."
    word, _, rest = API[section][name].partition(" ")
    return word, rest


@functools.cache
def stub(section: str, name: str):
    "A function with CuPy's signature and no body: calling it raises CPython's own TypeError."
    word, text = kind(section, name)
    if word != "def":
        text = "*args, **kwargs"
    made = {}
    exec(f"def {name}({text}): pass", made)
    return made[name]


@functools.cache
def signature(section: str, name: str) -> inspect.Signature:
    return inspect.signature(stub(section, name))


def bind(section: str, name: str, args: tuple, kwargs: dict) -> dict:
    "The arguments by name, after CuPy's signature accepted them."
    stub(section, name)(*args, **kwargs)
    return signature(section, name).bind(*args, **kwargs).arguments


def missing(section: str, name: str):
    "A stand-in for what CuPy has and the double does not."
    def absent(*args, **kwargs):
        raise NotImplementedError(f"{section}.{name} exists in CuPy {API['version']}; "
                                  "the double does not offer it")
    absent.__name__ = name
    return absent
