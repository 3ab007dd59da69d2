"""What is measured goes between its markers, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import measured

TEXT = "# A\n<!-- x: begin -->\nold\n<!-- x: end -->\nrest\n"


def test_only_what_is_between_the_markers_changes(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(TEXT)
    measured.write("x", "| new |\n", path)
    assert path.read_text() == "# A\n<!-- x: begin -->\n| new |\n<!-- x: end -->\nrest\n"
    measured.write("x", "", path)
    assert path.read_text() == TEXT.replace("old\n", "")


@pytest.mark.parametrize(
    "text",
    ["", "<!-- x: begin -->\n", "<!-- x: end -->\n<!-- x: begin -->\n", TEXT + TEXT],
)
def test_without_its_markers_nothing_is_written(text: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="once each"):
        measured.write("x", "new\n", path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *((measured.README, name) for name in ("peers", "bench", "soak", "half-open")),
        *((measured.FIGURES, name) for name in ("peers", "bench", "zoo")),
    ],
)
def test_the_documents_have_the_markers(path: Path, name: str) -> None:
    text = path.read_text()
    assert measured.between(measured.replaced(text, name, "new\n"), name) == "new\n"
    assert measured.replaced(text, name, measured.between(text, name)) == text
