"""What people write, YAML and JSON: read to texts, numbers, lists and tables, and nothing else."""

import json
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 20  # people write a few thousand
MOST_YAML = 1 << 17  # characters, which YAML's reader takes seconds for
DEEPEST = 20  # lists and tables within each other


def read_document(path: Path) -> Any:
    """What a .json file holds, or a YAML file of any other ending. Raises as `read_text` does."""
    text = read_text(path)
    return parse_json(text) if path.suffix.lower() == ".json" else _parse_yaml(text)


def read_text(path: Path) -> str:
    """Raises ValueError with what is wrong with a file, and OSError for one that cannot be read."""
    if not path.is_file():
        raise ValueError("is no file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"has {size / 1e6:.1f} MB, more than people write")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is no text in UTF-8") from None


def parse_json(text: str | bytes) -> Any:
    """What JSON says. Raises ValueError for a name that stands twice in a table, too."""
    try:
        return json.loads(text, object_pairs_hook=_table, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: is no JSON ({error.msg})") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"has {name!r} twice")
        table[name] = value
    return table


def _refuse_constant(name: str) -> None:
    raise ValueError(f"has {name}, which is no number")


def _parse_yaml(text: str) -> Any:
    if len(text) > MOST_YAML:
        raise ValueError(f"has {len(text) / 1e6:.1f} MB, more than people write")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or "it cannot be parsed"
    except ValueError as error:  # of 2024-13-45, which looks like a date
        mark, reason = None, str(error)
    line = f"line {mark.line + 1}: " if mark else ""
    raise ValueError(f"{line}is no YAML ({reason})")


class _Loader(yaml.SafeLoader):
    """YAML without what refers to another place, names a type, or stands twice."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        for word in ("anchor", "tag"):
            if name := getattr(event, word, None):
                self._refuse(event, f"the {word} {name} is not taken: write the value out")
        self.depth += 1
        if self.depth > DEEPEST:
            self._refuse(event, "nested too deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, name in enumerate(names):
            if name in names[:number]:
                self._refuse(node, f"{name} stands twice")
        return super().construct_mapping(node, deep)

    def _refuse(self, there: yaml.Event | yaml.Node, reason: str) -> None:
        raise yaml.MarkedYAMLError(problem=reason, problem_mark=there.start_mark)
