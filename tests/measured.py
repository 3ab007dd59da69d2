"""Puts measured text into a document, between two markers that no reader sees."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
README = _ROOT / "README.md"
#: What is too long for the README.
FIGURES = _ROOT / "tests" / "MEASURED.md"


def between(text: str, name: str) -> str:
    """What `text` has between the markers of this name.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    return _parts(text, name)[1]


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between the markers of this name.

    Raises:
        ValueError: see `between`.
    """
    before, _, behind = _parts(text, name)
    return before + content + behind


def write(name: str, content: str, path: Path) -> None:
    """Replace what is between the markers of this name.

    Raises:
        ValueError: see `between`; nothing was written.
    """
    path.write_text(replaced(path.read_text(), name, content))


def _parts(text: str, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"there must be {begin.strip()} and {end.strip()}, once each")
    start, stop = text.index(begin) + len(begin), text.index(end)
    return text[:start], text[start:stop], text[stop:]
