"""Puts measured text into README.md, between two markers that no reader sees."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between the markers of this name.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"README.md must have {begin.strip()} and {end.strip()}, once each")
    head, _, rest = text.partition(begin)
    return head + begin + content + end + rest.partition(end)[2]


def write(name: str, content: str, path: Path = README) -> None:
    """Replace what is between the markers of this name.

    Raises:
        ValueError: see `replaced`; nothing was written.
    """
    path.write_text(replaced(path.read_text(), name, content))
