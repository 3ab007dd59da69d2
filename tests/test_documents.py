"""Every document: what it shows is Python, and where it leads there is something."""

from __future__ import annotations

import ast

import pytest

from fallback_transport.drivers import HELLO_WAIT
from fallback_transport.polling import MAX_JOINED, WELCOME_WAIT
from fallback_transport.protocol.machine import CANDIDATE_WAIT, CLOSE_WAIT, MAX_CANDIDATES
from fallback_transport.protocol.server import REPEATED, UNCOMMITTED_WAIT
from fallback_transport.registry import MAX_TOMBSTONES, TOMBSTONE_SECONDS
from tests.documents import ALL, GUIDES, PROTOCOL, README, ROOT, Document


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


@pytest.mark.parametrize(
    "sentence",
    [
        f"a WebSocket has {HELLO_WAIT:.0f} s for it",
        f"it gives a new session's {1000 * WELCOME_WAIT:.0f} ms",
        f"at most {MAX_CANDIDATES} (the oldest is dropped with 4429), for at most "
        f"{CANDIDATE_WAIT:.0f} s each",
        f"never committed is given up after {UNCOMMITTED_WAIT:.0f} s",
        f"if it comes {REPEATED:.0f} s later or more",
        f"Of more than {MAX_JOINED} requests with one number",
        f"Unconfirmed after {CLOSE_WAIT:.0f} s",
        f"remembered for {TOMBSTONE_SECONDS:.0f} s (of very many, the last {MAX_TOMBSTONES:,}",
    ],
)
def test_the_protocol_states_the_times_and_numbers_of_the_server(sentence: str) -> None:
    assert sentence in " ".join(PROTOCOL.text.split())
