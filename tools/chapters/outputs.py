"""Outputs of a cell: what is stored of them, and what may not be stored."""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import yaml

from . import notebook
from .outline import ROOT

KINDS = {"text/plain", "text/markdown", "text/latex", "image/svg+xml", "image/png"}
NOISE = re.compile(r"^.*Matplotlib is building the font cache.*\n?", re.M)  # first run on a machine
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}|\b0x7f[0-9a-f]{8,}")
FOLDERS = ("RNNTEXT_SHARED_DATA", "RNNTEXT_DATA")
HOMES = re.compile(r"/(?:home|Users)/[\w.-]+/|[A-Z]:\\Users\\")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def _places_of_this_machine() -> list[str]:
    prefixes = [Path(p) for p in (sys.prefix, sys.base_prefix) if len(Path(p).parts) > 2]
    places = [ROOT, Path.home(), Path(tempfile.gettempdir()), *prefixes]
    places += [Path(os.environ[name]) for name in FOLDERS if os.environ.get(name)]
    return sorted({str(p) for p in places if len(p.parts) > 1}, key=len, reverse=True)


MACHINE = re.compile(
    "|".join(rf"(?<![\w.]){re.escape(place)}(?![\w-])" for place in _places_of_this_machine())
)


def plain(value):
    "Dicts and lists instead of nbformat's own classes."
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def normalised(cell: dict, outputs: list[dict]) -> list[dict]:
    "Outputs as they are stored: merged streams, no counters, no volatile metadata."
    done: list[dict] = []
    streams: dict[str, str] = {}

    def close_streams():
        # The kernel sends the two streams in any order: stdout comes first.
        for name in sorted(streams, reverse=True):
            if streams[name]:
                done.append({"name": name, "output_type": "stream", "text": streams[name]})
        streams.clear()

    for output in plain(outputs):
        if output["output_type"] == "stream":
            text = output["text"]
            if output["name"] == "stderr":
                text = "" if notebook.says(cell, "warning", "false") else NOISE.sub("", text)
            streams[output["name"]] = streams.get(output["name"], "") + text
            continue
        close_streams()
        if output["output_type"] == "error":  # the frames name files and lines of this machine
            output["traceback"] = [f"{output['ename']}: {output['evalue']}"]
        else:
            meta = output.get("metadata", {})
            output["metadata"] = {k: v for k, v in meta.items() if k == "image/png"}
            if "image/png" in output["data"]:
                output["data"]["image/png"] = output["data"]["image/png"].rstrip()
        if output["output_type"] == "execute_result":
            output["execution_count"] = None
        done.append(output)
    close_streams()
    return done


def texts(cell: dict) -> list[str]:
    "All that a reader or a machine could read in the outputs of a cell."
    found = []
    for output in cell.get("outputs", []):
        found += [output["text"]] if "text" in output else []
        found += [v for k, v in output.get("data", {}).items() if notebook.is_text(k)]
        found += [output["evalue"]] if "evalue" in output else []
    return found


def problems(cell: dict) -> list[str]:
    "What stands in the outputs of a cell and must not be committed."
    found = []
    for output in cell.get("outputs", []):
        kind = output["output_type"]
        if kind == "error" and not may_raise(cell):
            found.append(f"raised {output['ename']}: {output['evalue']}")
        meant = notebook.says(cell, "warning", "true")
        if kind == "stream" and output["name"] == "stderr" and not meant:
            line = output["text"].strip().split("\n")[-1][:100]
            found.append(f"wrote to stderr ({line}); `warning: true` if the page shall show it")
        if kind == "stream" and "\r" in output["text"]:
            found.append("prints carriage returns (a progress bar?)")
        for mime in sorted(set(output.get("data", {})) - KINDS):
            found.append(f"has a {mime} output; text/markdown or an image instead")
    if notebook.says(cell, "eval", "false"):
        return found  # stored by hand, never made by a run
    for text in texts(cell):
        if match := ADDRESS.search(text):
            found.append(f"shows the address of an object ({match[0]})")
        if match := MACHINE.search(text) or HOMES.search(text):
            found.append(f"shows a path of this machine ({text[match.start() :][:60].split()[0]})")
    return found


def may_raise(cell: dict) -> bool:
    tags = cell.get("metadata", {}).get("tags", [])
    return notebook.says(cell, "eval", "false") or "raises-exception" in tags


def images(cell: dict) -> list[dict]:
    "The outputs that hold a picture."
    return [
        o for o in cell.get("outputs", []) if any(k.startswith("image/") for k in o.get("data", {}))
    ]


def alts(cell: dict) -> list[str]:
    "The sentences that the figures computed about themselves; empty if one has none."
    found = []
    for output in images(cell):
        text = " ".join(output["data"].get("text/plain", "").split())
        if "image/svg+xml" not in output["data"] or not text or re.fullmatch("<.*>", text):
            return []
        found.append(text)
    return found


def written_alts(cell: dict) -> list[str]:
    "The sentences in the `fig-alt` line."
    value = yaml.safe_load(notebook.directives(cell).get("fig-alt", "[]"))
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def with_alts(cell: dict) -> str:
    "The source of the cell with the computed sentences in its `fig-alt` line."
    hidden = notebook.says(cell, "include", "false") or notebook.says(cell, "output", "false")
    sentences = [json.dumps(alt, ensure_ascii=False) for alt in alts(cell)]
    if not sentences or hidden:
        return cell["source"]
    value = sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"
    return notebook.with_directive(cell["source"], "fig-alt", value, after=("fig-cap", "label"))
