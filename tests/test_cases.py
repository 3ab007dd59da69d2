"""tests/cases.md: every case has its tests, and every test that it names exists."""

from __future__ import annotations

import ast
import functools
import re
from itertools import chain

import pytest

from tests.needs import TESTS

NUMBER = 56
HOSTILE = "tests/integration/test_hostile.py"
TABLES = TESTS / "integration" / "bad_input"
CASES = re.findall(r"^(\d+)\. (.*)$", (TESTS / "cases.md").read_text(), re.MULTILINE)
EACH = pytest.mark.parametrize(("number", "text"), CASES, ids=[number for number, _ in CASES])


def named(text: str) -> list[str]:
    """The tests that a case names."""
    return [name for name in re.findall("`([^`]+)`", text) if "::" in name]


@functools.cache
def functions(path: str) -> frozenset[str]:
    """The test functions of a Python file."""
    tree = ast.parse((TESTS.parent / path).read_text())
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


@functools.cache
def parameters(path: str) -> frozenset[str]:
    """Every text of a Python file and of its tables, f-strings as they are written."""
    found = set()
    tables = TABLES.glob("*.py") if path == HOSTILE else ()
    for node in chain.from_iterable(
        ast.walk(ast.parse(file.read_text())) for file in (TESTS.parent / path, *tables)
    ):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            found.add(ast.unparse(node)[2:-1])
    return frozenset(found)


@functools.cache
def titles(path: str) -> frozenset[str]:
    """The titles of a JavaScript file's tests, templates as they are written."""
    text = (TESTS.parent / path).read_text()
    found = re.findall(r"""^ *(?:test|both)\((["`])((?:\\.|(?!\1).)+)\1""", text, re.MULTILINE)
    return frozenset(title for _, title in found)


def exists(test: str) -> bool:
    """Whether a test is there; of a parametrised one, the parameter too."""
    path, _, name = test.partition("::")
    if not (TESTS.parent / path).is_file():
        return False
    if path.endswith(".mjs"):
        return name in titles(path)
    function, _, parameter = name.partition("[")
    # The tables of hostile input add the transport to a name.
    parameter = re.sub(", (polled|on a WebSocket)$", "", parameter.removesuffix("]"))
    return function in functions(path) and (not parameter or parameter in parameters(path))


def test_every_case_is_there_once() -> None:
    assert [int(number) for number, _ in CASES] == list(range(1, NUMBER + 1))


@EACH
def test_a_case_has_tests_or_a_reason(number: str, text: str) -> None:
    assert named(text) or re.search(r"\*Not here:\* \w.{20}", text)


@EACH
def test_the_tests_of_a_case_exist(number: str, text: str) -> None:
    assert [test for test in named(text) if not exists(test)] == []


@pytest.mark.parametrize(
    "test",
    [
        "tests/no_such_file.py::test_every_case_is_there_once",
        "tests/test_cases.py::test_nothing",
        "tests/test_cases.py::exists",
        "tests/integration/test_hostile.py::test_bad_input[no such input]",
        "tests/js/polls.test.mjs::no such title",
        "tests/js/polls.test.mjs::502",
    ],
)
def test_what_is_not_there_is_found_out(test: str) -> None:
    assert not exists(test)
