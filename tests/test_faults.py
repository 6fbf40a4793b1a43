"""docs/faults.md: its tests exist, and the code says its sentences."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.places import ROOT

PAGE = ROOT / "docs" / "faults.md"
GROUPS = "kills power disk memory writers outputs damaged exchanged change hostile"
GROUPS += " servers limits secrets"


def rows() -> list[list[str]]:
    """The cells of all tables, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "what happens" and "---" not in row[0]]


@cache
def names_in(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def texts_of_the_code() -> list[str]:
    """Every text of the product, with … for what is put into it."""
    files = [ROOT / "pipeline.py", *ROOT.glob("shared/**/*.py"), *ROOT.glob("components/**/*.py")]
    found = []
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        match node:
            case ast.Constant(value=str(text)):
                found.append(text)
            case ast.JoinedStr(values=parts):
                pieces = [p.value if isinstance(p, ast.Constant) else "…" for p in parts]
                found.append("".join(pieces))
    return found


def test_the_page_has_all_groups_and_many_rows():
    assert len(rows()) >= 40 and {len(row) for row in rows()} == {4}
    headings = " ".join(re.findall("^## (.*)", PAGE.read_text(), re.MULTILINE)).lower()
    assert [word for word in GROUPS.split() if word not in headings] == []


def test_every_row_names_a_test_that_exists():
    for *_, named in rows():
        found = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", named)
        assert found, named
        file, name = found.groups()
        assert (ROOT / file).is_file() and name in names_in(ROOT / file), named


def test_the_code_says_what_the_page_shows():
    texts = texts_of_the_code()
    for _, seen, _, _ in rows():
        for sentence in re.findall("`([^`]*…[^`]*|[^`]* [^`]*)`", seen):
            for part in filter(None, (part.strip() for part in sentence.split("…"))):
                assert any(part in text for text in texts), f"{sentence}: {part}"
