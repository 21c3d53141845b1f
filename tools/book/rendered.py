"Reads rendered HTML again: text for the search, addresses for the checks."
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from .page import Page
from .problems import Problem

FETCHES = {("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"),
           ("video", "src"), ("audio", "src"), ("embed", "src"), ("object", "data"),
           ("image", "href"), ("use", "href"), ("img", "srcset"), ("input", "src")}  # fmt: skip
FAR = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//", re.I)
CSS_FAR = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"]?)((?:https?:)?//[^'\")\s]+)", re.I)
SILENT = {"script", "style", "mrow", "mi", "mo", "mn", "mtext"}  # formulas: their TeX is kept


class Addresses(HTMLParser):
    "Identifiers, links and fetched files of a page."

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.fetched, self.repeated = set(), [], [], set()
        self.feed(text)
        self.fetched += CSS_FAR.findall(text)

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key == "id" and value:
                if value in self.ids:
                    self.repeated.add(value)
                self.ids.add(value)
            elif tag == "a" and key == "href":
                self.links.append(value or "")
            elif (tag, key) in FETCHES or (tag == "link" and key == "href"):
                self.fetched.append(value or "")


class Sections(HTMLParser):
    "The words of a page, cut at its headings."

    def __init__(self, html: str):
        super().__init__()
        self.found = [["", "", []]]
        self.inside: list[str] = []
        self.anchor = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "section":
            self.anchor = dict(attrs).get("id") or ""
        if re.fullmatch("h[1-6]", tag):
            self.found.append([self.anchor, "", []])
        if tag in ("script", "style", "annotation", "math") or re.fullmatch("h[1-6]", tag):
            self.inside.append(tag)
        if tag not in ("span", "em", "strong", "code", "a", "math", "mi", "mo", "mn", "mrow"):
            self.handle_data(" ")

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        where = self.inside[-1] if self.inside else ""
        if where in ("script", "style", "math"):
            return
        if any(re.fullmatch("h[1-6]", t) for t in self.inside):
            self.found[-1][1] += data
        else:
            self.found[-1][2].append(data)


def text(html: str) -> str:
    "The words of a piece of HTML; formulas as TeX."
    reader = Sections(f"<p>{html}</p>")
    return squeeze("".join(reader.found[0][2]))


def squeeze(words: str) -> str:
    return " ".join(words.split())


def sections(html: str) -> list[tuple[str, str, str]]:
    "(anchor, heading, words) of the page's sections."
    found = [(a, squeeze(t), squeeze("".join(w))) for a, t, w in Sections(html).found]
    return [x for x in found if x[1] or x[2]]


def local_files(pages: list[Page], root: Path, known: dict) -> dict[str, bytes]:
    "Pictures and other files of the source that a page shows or links to."
    found = {}
    for page in pages:
        reader = Addresses(page.html["body"])
        for address in [*reader.fetched, *reader.links]:
            path = place(address, page)
            if path and path not in known and not path.startswith("..") and (root / path).is_file():
                found[path] = (root / path).read_bytes()
    return found


def place(address: str, page: Page) -> str | None:
    "A relative address as a path from the root of the site; None for one of another kind."
    path = unquote(address.partition("#")[0].partition("?")[0])
    if FAR.match(address) or re.match(r"[a-z][a-z0-9+.-]*:", address, re.I) or not path:
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(page.output), path))


def check(pages: list[Page], files: dict[str, bytes], root: Path) -> list[Problem]:
    "Dead links and anchors, missing pictures, addresses that a browser would fetch."
    read = {p.output: Addresses(files[p.output].decode()) for p in pages}
    found = []
    for page in pages:
        seen = read[page.output]
        for identifier in sorted(seen.repeated):
            found.append(problem(page, f"identifier {identifier} is used twice", identifier))
        for address in dict.fromkeys(seen.fetched):
            if FAR.match(address):
                found.append(problem(page, f"the page would fetch {address}", address))
            elif (path := place(address, page)) and path not in files:
                found.append(problem(page, f"there is no file {address}", address))
        for address in dict.fromkeys(seen.links):
            found += dead(page, address, read, files)
    return found


def problem(page: Page, message: str, needle: str) -> Problem:
    return Problem(page.source, page.find(needle), message)


def dead(page: Page, address: str, read: dict[str, Addresses], files: dict[str, bytes]):
    "A problem if a link of the page leads nowhere; citations have been checked already."
    path, anchor = place(address, page), unquote(address.partition("#")[2])
    target = path if path else page.output if address.startswith("#") else None
    needle = address.partition("#")[0].rpartition("/")[2].removesuffix(".html") or address
    if target and target not in files:
        yield problem(page, f"link to {address}: no such page", needle)
    elif target in read and anchor not in read[target].ids | {""} and anchor[:4] != "ref-":
        yield problem(page, f"link to {address}: no such place on that page", anchor)
