"""What people write is read to plain values, or refused with the line."""

import pytest

from shared.files.documents import MOST_BYTES, MOST_YAML, parse_json, read_document

PLAIN = {"a": [1, "x", {"b": None}]}


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.json", "a.JSON"])
def test_json_is_read_by_any_ending_and_yaml_by_its_own(tmp_path, name):
    (tmp_path / name).write_text('\ufeff{"a": [1, "x", {"b": null}]}')
    assert read_document(tmp_path / name) == PLAIN
    (tmp_path / "b.yaml").write_text("a:\n- 1\n- x\n- b:\n")
    assert read_document(tmp_path / "b.yaml") == PLAIN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: &x 2\n", "line 2: is no YAML (the anchor x is not taken"),
        ("a: *x\n", "line 1: is no YAML (the anchor x is not taken"),
        ("a: !!python/name:os.system ''\n", "line 1: is no YAML (the tag tag:yaml.org,2002:python"),
        ("a: !x 1\n", "line 1: is no YAML (the tag !x is not taken"),
        ("a: 1\na: 2\n", "line 1: is no YAML (a stands twice)"),
        ("- {b: 1, b: 2}\n", "line 1: is no YAML (b stands twice)"),
        ("[" * 50_000, "nested too deep"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: [\n", "line 2: is no YAML ("),
        ("a: 2024-13-45\n", "is no YAML ("),
        ("x" * (MOST_BYTES + 1), "1.0 MB, more than people write"),
        ("x" * (MOST_YAML + 1), "0.1 MB, more than people write"),
        ("a: \0\n", "is no YAML"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError) as refusal:
        read_document(tmp_path / "a.yaml")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "has 'a' twice"),
        ('{"b": {"a": 1, "a": 2}}', "has 'a' twice"),
        ('{"a": NaN}', "has NaN, which is no number"),
        ('{"a": -Infinity}', "has -Infinity, which is no number"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' + "9" * 5000 + "}", "4300"),
        ("{", "line 1: is no JSON"),
    ],
)
def test_what_is_refused_of_json(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_what_is_no_file_of_text(tmp_path):
    with pytest.raises(ValueError, match="is no file"):
        read_document(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        read_document(tmp_path / "a.yaml")
