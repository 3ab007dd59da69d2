"""What is measured goes between its markers, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import readme

TEXT = "# A\n<!-- x: begin -->\nold\n<!-- x: end -->\nrest\n"


def test_only_what_is_between_the_markers_changes(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(TEXT)
    readme.write("x", "| new |\n", path)
    assert path.read_text() == "# A\n<!-- x: begin -->\n| new |\n<!-- x: end -->\nrest\n"
    readme.write("x", "", path)
    assert path.read_text() == TEXT.replace("old\n", "")


@pytest.mark.parametrize(
    "text",
    ["", "<!-- x: begin -->\n", "<!-- x: end -->\n<!-- x: begin -->\n", TEXT + TEXT],
)
def test_without_its_markers_nothing_is_written(text: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="once each"):
        readme.write("x", "new\n", path)
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["soak", "half-open", "peers"])
def test_the_readme_has_the_markers(name: str) -> None:
    text = readme.README.read_text()
    assert readme.replaced(text, name, "new\n").count("new\n") == text.count("new\n") + 1
