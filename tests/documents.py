"""The documents, README.md and those beside the code, and what is in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """One of them, as it is when it is read."""

    path: Path
    text: str

    @classmethod
    def read(cls, name: str) -> Document:
        path = ROOT / name
        return cls(path, path.read_text())

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language."""
        return [text for found, text in _BLOCK.findall(self.text) if found == language]

    def block(self, language: str, containing: str) -> str:
        """The one fenced block of a language that has this in it."""
        [found] = [text for text in self.blocks(language) if containing in text]
        return found

    def section(self, title: str) -> str:
        """The text under a heading, up to the next one."""
        [found] = re.split(rf"^#+ {title}$", self.text, flags=re.MULTILINE)[1:]
        return found.split("\n#")[0]

    def anchors(self) -> list[str]:
        """What a link can have behind its `#`, as GitHub makes it of the headings."""
        heads = re.findall(r"^#+ (.*)$", _BLOCK.sub("", self.text), re.MULTILINE)
        return [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]

    def links(self) -> list[tuple[str, str]]:
        """Where its links lead and its pictures are: path and anchor."""
        prose = _BLOCK.sub("", self.text)
        targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'src="([^"]+)"', prose)
        return [(path, anchor) for path, _, anchor in (each.partition("#") for each in targets)]


def table(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    # The line under a head has nothing but dashes.
    rules = [place for place, line in enumerate(lines) if re.fullmatch("[|-]+", line)]
    heads = {place - step for place in rules for step in (0, 1)}
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for place, line in enumerate(lines)
        if place not in heads
    ]


def code(cell: str) -> list[str]:
    """What a cell has between backquotes."""
    return re.findall(r"`([^`]+)`", cell)


README = Document.read("README.md")
PYTHON = Document.read("fallback_transport/PYTHON.md")
JAVASCRIPT = Document.read("fallback_transport/JAVASCRIPT.md")
TESTING = Document.read("fallback_transport/TESTING.md")
DEPLOYING = Document.read("fallback_transport/DEPLOYING.md")
MIGRATING = Document.read("fallback_transport/MIGRATING.md")
PROTOCOL = Document.read("fallback_transport/PROTOCOL.md")
DOCTOR = Document.read("fallback_transport/doctor/DOCTOR.md")
MEASURED = Document.read("tests/MEASURED.md")
CHANGELOG = Document.read("CHANGELOG.md")
#: What people read who use the package.
GUIDES = (README, PYTHON, JAVASCRIPT, TESTING, DEPLOYING, MIGRATING)
ALL = (*GUIDES, PROTOCOL, DOCTOR, MEASURED, CHANGELOG)
