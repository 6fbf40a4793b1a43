"""How a test writes a command line, and asks for what is refused: by a call, or by a command.

Every refusal is held to one form: a single sentence on a single line.
"""

from collections.abc import Callable

import pytest

from shared.errors import InputError
from shared.flags import as_flag


def refusal(call: Callable, *arguments, **options) -> str:
    """The sentence with which the call is refused."""
    with pytest.raises(InputError) as refused:
        call(*arguments, **options)
    return one_sentence(str(refused.value))


def refusal_of_command(capsys: pytest.CaptureFixture, main: Callable, *argv: object) -> str:
    """The sentence with which `main` refuses the command line, without "<command> refused: "."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in argv])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    command, found, sentence = said.partition(" refused: ")
    assert found and " " not in command and sentence.endswith("\n"), said
    return one_sentence(sentence.removesuffix("\n"))


def as_flags(**options: object) -> list[str]:
    """The words of a command line: a flag for each option, `batch_sizes=(1, 2)` with both values,
    `gears=True` with none."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [] if value is True else [value]
        words += [as_flag(name), *map(str, values)]
    return words


def one_sentence(text: str) -> str:
    assert "\n" not in text and ". " not in text and text.endswith((".", "?")), text
    return text
