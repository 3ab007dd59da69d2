"""Every document: what it shows is Python, and where it leads there is something."""

from __future__ import annotations

import ast

import pytest

from tests.documents import ALL, GUIDES, README, ROOT, Document


def name(document: Document) -> str:
    return document.path.name


@pytest.mark.parametrize("document", GUIDES, ids=name)
def test_the_python_examples_compile(document: Document) -> None:
    for text in document.blocks("python"):
        ast.parse(text)


@pytest.mark.parametrize("document", ALL, ids=name)
def test_the_links_lead_somewhere(document: Document) -> None:
    for target, anchor in document.links():
        if "://" in target:
            continue
        path = document.path.parent / target if target else document.path
        assert path.exists(), target
        if anchor:
            assert anchor in Document.read(str(path)).anchors(), f"{target}#{anchor}"


@pytest.mark.parametrize("document", GUIDES, ids=name)
def test_no_heading_is_there_twice(document: Document) -> None:
    """Or the anchor of the second one is another, and changes with the order."""
    anchors = document.anchors()
    assert len(set(anchors)) == len(anchors)


def test_the_readme_leads_to_every_document() -> None:
    linked = {(ROOT / target).resolve() for target, _ in README.links() if target}
    assert {document.path for document in ALL} - linked == {README.path}
