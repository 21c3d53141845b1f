"What can be wrong with a book, and where."
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    "One thing to mend: a file, a place in it, and what is wrong there."

    file: str
    place: str  # "cell 7 line 3", "line 12", or ""
    message: str

    def __str__(self) -> str:
        return f"{self.file}{' ' + self.place if self.place else ''}: {self.message}"


class BookError(Exception):
    "The book cannot be rendered at all; the text says why."
