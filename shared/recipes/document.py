"""A recipe's file as it is written: sections of fields, each with its line. Values stay texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from shared.errors import InputError

MOST_BYTES = 1 << 20  # a recipe has a few thousand


@dataclass(frozen=True)
class Entry:
    """What a file gives one field."""

    text: str | list[str]  # a list has one for each of its elements
    line: int
    is_quoted: bool = False


@dataclass(frozen=True)
class Section:
    """What a file gives one step."""

    line: int
    entries: dict[str, Entry]


def read_document(file: Path) -> dict[str, Section]:
    """The sections of a recipe's file, in its order.

    YAML's own ideas of values (no is false, 1e3 a text) are not asked: a field's type decides, see
    `values.py`. Raises InputError, with file and line, for whatever is no recipe by its form.
    """
    walk = _Walk(file, _text_of(file))
    first = walk.next()
    if isinstance(first, yaml.StreamEndEvent):
        raise InputError(f"--recipe {file} is empty: write sections such as `prepare:` into it.")

    # Sections, and their fields.
    sections: dict[str, Section] = {}
    if not isinstance(first, yaml.MappingStartEvent):
        raise walk.refused(first, f"a recipe has sections, but this is {_kind(first)}")
    for name, line in walk.keys("", sections):
        value = walk.next()
        entries: dict[str, Entry] = {}
        if isinstance(value, yaml.MappingStartEvent):
            for field, line_of_field in walk.keys(f"{name}.", entries):
                entries[field] = walk.entry(f"{name}.{field}", line_of_field)
        elif not (isinstance(value, yaml.ScalarEvent) and value.implicit[0] and not value.value):
            raise walk.refused(value, f"section {name} is {_kind(value)}, but holds fields")
        sections[name] = Section(line, entries)

    if not isinstance(end := walk.next(), yaml.StreamEndEvent):
        raise walk.refused(end, "a second document begins: a recipe is one")
    return sections


def _text_of(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(
                f"--recipe {file} has {file.stat().st_size / 1e6:.1f} MB, which is no recipe: name "
                "a YAML file with the sections of one."
            )
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"--recipe {file} is no text in UTF-8: save it as such.") from None
    except OSError as error:
        raise InputError(f"--recipe {file} cannot be read: {error.strerror}.") from None


class _Walk:
    """YAML's events one by one; no tree is built, so that none can be huge."""

    def __init__(self, file: Path, text: str):
        self.file, self.lines = file, text.splitlines()
        self.events = yaml.parse(text, Loader=yaml.SafeLoader)

    def next(self) -> yaml.Event:
        """The next event that says something of the content. Raises InputError for no YAML, and for
        what a recipe has no use of."""
        try:
            event = next(self.events)
            while isinstance(
                event, yaml.StreamStartEvent | yaml.DocumentStartEvent | yaml.DocumentEndEvent
            ):
                event = next(self.events)
        except yaml.MarkedYAMLError as error:
            raise self._no_yaml(error) from None
        except yaml.reader.ReaderError as error:
            raise InputError(
                f"--recipe {self.file} has the character {chr(error.character)!r}, which no YAML "
                "may have: remove it."
            ) from None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise self.refused(
                event, f"{sign}{event.anchor} refers to another place: write the value out"
            )
        if tag := getattr(event, "tag", None):
            raise self.refused(event, f"the tag {tag} is not taken: write the value alone")
        return event

    def keys(self, prefix: str, known: dict) -> Iterator[tuple[str, int]]:
        """Names and lines of a mapping's keys; whoever asks takes the value after each. Raises
        InputError for one that is in `known` already."""
        while not isinstance(key := self.next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise self.refused(key, f"{_kind(key)} stands where a name should")
            name, line = key.value, _line(key)
            if name in known:
                raise self.refused(
                    key, f"{prefix}{name} was given on line {known[name].line} already: keep one"
                )
            yield name, line

    def entry(self, name: str, line: int) -> Entry:
        """The value of a field."""
        value = self.next()
        if isinstance(value, yaml.ScalarEvent):
            return Entry(value.value, line, is_quoted=not value.implicit[0])
        if not isinstance(value, yaml.SequenceStartEvent):
            raise self.refused(value, f"{name} is {_kind(value)}: give one value, or a list")
        texts = []
        while not isinstance(element := self.next(), yaml.SequenceEndEvent):
            if not isinstance(element, yaml.ScalarEvent):
                raise self.refused(element, f"{name} has {_kind(element)} in its list")
            texts.append(element.value)
        return Entry(texts, line)

    def refused(self, event: yaml.Event, sentence: str) -> InputError:
        return InputError(f"--recipe {self.file}, line {_line(event)}: {sentence}.")

    def _no_yaml(self, error: yaml.MarkedYAMLError) -> InputError:
        number = (error.problem_mark or error.context_mark).line + 1
        line = self.lines[number - 1] if number <= len(self.lines) else ""
        if "\t" in line:
            sentence = "there is a tab, with which YAML cannot be indented: write spaces"
        else:
            sentence = f"no YAML ({error.problem}): write NAME: VALUE, and indent all fields alike"
        return InputError(f"--recipe {self.file}, line {number}: {sentence}.")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1


def _kind(event: yaml.Event) -> str:
    match event:
        case yaml.MappingStartEvent():
            return "a mapping"
        case yaml.SequenceStartEvent():
            return "a list"
        case _:
            return "a text"
