"""The flags of a function: one for each parameter, and for each field of its config in groups."""

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro
import tyro._errors as misuse  # not of its public interface: constraints.txt pins the version
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from shared.bounds import reason_of
from shared.errors import InputError


def as_flag(name: str) -> str:
    """The flag of a field or parameter."""
    return "--" + name.replace("_", "-")


def takes_word(function: Callable | None) -> bool:
    """Whether one of a function's parameters is given without a flag, such as RUN."""
    hints = get_type_hints(function, include_extras=True).values() if function else ()
    return any(tyro.conf.Positional in getattr(hint, "__metadata__", ()) for hint in hints)


def as_words(config: BaseModel, kind: type[BaseModel]) -> list[str]:
    """The words of a command line that give the fields of `kind`, as `config` has them; those that
    have their default are left out."""
    words = []
    for name, field in kind.model_fields.items():
        value = getattr(config, name)
        if value == field.get_default():
            continue
        flag = flag_of(kind, name)
        if isinstance(value, tuple | list):
            words += [flag, *map(str, value)]
        else:  # in one word, since a value may begin with a hyphen
            words.append(f"{flag}={value:g}" if isinstance(value, float) else f"{flag}={value}")
    return words


def flag_of(config: type[BaseModel], name: str) -> str:
    """The flag of a config's field, which may have another name than the field."""
    named = (one.name for one in config.model_fields[name].metadata if getattr(one, "name", None))
    return as_flag(next(named, name))


def read_flags(
    function: Callable,
    prog: str,
    argv: list[str],
    more: type | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The values of parameters and of config fields; tyro reads their types and checks no more.

    Args:
        more: A dataclass of flags that are no parameters of the function, in a box of its own.
        defaults: Of config fields, where they are other than the config's.

    Raises InputError for flags that are unknown, missing or not of their type.
    """
    flags = flags_of(function, more, defaults or {})
    every, lists = _names(flags)
    with misuse.on_parse_error(_refuse_misuse(prog, every)):
        read = tyro.cli(flags, prog=prog, args=join_repeated(argv, lists))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(read):
        value = getattr(read, field.name)
        values |= vars(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return values | _checked_parameters(function, values)


def _checked_parameters(function: Callable, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a function's own flags, within the bounds of its parameters. Raises
    InputError."""
    checked = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        if name in values:
            try:
                checked[name] = TypeAdapter(hint).validate_python(values[name])
            except ValidationError as error:
                reason = reason_of(error)
                raise InputError(f"{as_flag(name)} {values[name]!r}: {reason}.") from None
    return checked


def flags_of(
    function: Callable, more: type | None = None, defaults: Mapping[str, Any] = MappingProxyType({})
) -> type:
    """A dataclass of all flags; each group of the config is a dataclass inside of it.

    It is made anew because pydantic checks the values later: a refusal is then one sentence.
    """
    # The parameters.
    hints = get_type_hints(function, include_extras=True)
    config = hints.get("config")
    fields = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name != "config":
            required = parameter.default is inspect.Parameter.empty
            kind = _with_metavar(hints[name])
            fields.append((name, kind) if required else (name, kind, parameter.default))

    # The config: what it declares itself stands with the parameters.
    for group, names in groups_of(config).items() if config else ():
        helps = help_texts(group)
        options = [
            _option(name, config.model_fields[name], helps.get(name, ""), defaults)
            for name in names
        ]
        if group is config:
            fields += options
            continue
        nested = dataclasses.make_dataclass(
            group.__name__, options, namespace={"__doc__": first_paragraph(group)}
        )
        fields.append((group_name(group), nested, dataclasses.field(default_factory=nested)))
    if more:
        fields.append((group_name(more), more, dataclasses.field(default_factory=more)))
    documented = {"__doc__": inspect.getdoc(function)}
    return dataclasses.make_dataclass("Flags", fields, kw_only=True, namespace=documented)


def groups_of(config: type[BaseModel]) -> dict[type[BaseModel], list[str]]:
    """The names of a config's fields by the class that declares them, in the order of the fields:
    pydantic takes bases from the last to the first."""
    groups: dict[type[BaseModel], list[str]] = {}
    for name in config.model_fields:
        owner = next(one for one in config.__mro__ if name in vars(one).get("__annotations__", {}))
        groups.setdefault(owner, []).append(name)
    return groups


def group_name(group: type[BaseModel]) -> str:
    """`LossOptions` -> `loss`: tyro calls the box `loss options`."""
    words = re.sub(
        r"(?<=[a-z])(?=[A-Z])", "_", group.__name__.removesuffix("Options").removesuffix("Flags")
    )
    return words.lower()


@functools.cache
def help_texts(group: type[BaseModel]) -> dict[str, str]:
    """The docstrings under the fields that a class declares, each in one line.

    Read only where they are shown: pydantic would do it for every class at every start, which is
    a sixth of the time that `import pipeline` takes."""
    module = ast.parse(inspect.getsource(sys.modules[group.__module__]))
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    texts = {}
    for field, text in itertools.pairwise(classes[group.__name__].body):
        match field, text:
            case ast.AnnAssign(), ast.Expr(ast.Constant(str(words))):
                texts[field.target.id] = " ".join(words.split())
    return texts


def _option(name: str, field: FieldInfo, help_text: str, defaults: Mapping[str, Any]) -> tuple:
    """A field of a config as field of a dataclass."""
    flag = tyro.conf.arg(help=help_text, prefix_name=False)  # --ngf, not --network.ngf
    kind = Annotated[_with_metavar(field.annotation), *field.metadata, flag]
    if field.is_required() and name not in defaults:
        return (name, kind)
    return (name, kind, defaults.get(name, field.default))


def _with_metavar(kind: Any) -> Any:
    """`Path | None` is PATH in the help, not {None}|PATH; numbers and words likewise."""
    metavars = {Path: "PATH", str: "STR", int: "INT", float: "FLOAT"}
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    others = [one for one in get_args(plain) if one is not NoneType]
    if NoneType in get_args(plain) and len(others) == 1 and others[0] in metavars:
        return Annotated[kind, tyro.conf.arg(metavar=metavars[others[0]])]
    return kind


def _names(flags: type) -> tuple[list[str], set[str]]:
    """All flags, and those that take several values."""
    every, lists = [], set()
    for name, kind in get_type_hints(flags, include_extras=True).items():
        if dataclasses.is_dataclass(kind):
            of_group, lists_of_group = _names(kind)
            every += of_group
            lists |= lists_of_group
            continue
        given = [one.name for one in getattr(kind, "__metadata__", ()) if hasattr(one, "name")]
        flag = as_flag(next(filter(None, given), name))
        every.append(flag)
        plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if get_origin(plain) is tuple:
            lists.add(flag)
    return every, lists


def join_repeated(argv: list[str], lists: set[str]) -> list[str]:
    """`--set a --set b` -> `--set a b`: tyro would keep the last one only."""
    parts: list[list[str]] = [[]]  # each a flag and its values
    first: dict[str, list[str]] = {}  # part of each flag in `lists`
    current = parts[0]
    for argument in argv:
        flag = name_of(argument)
        if not argument.startswith("--"):
            current.append(argument)
        elif flag not in lists:
            current = [argument]
            parts.append(current)
        else:
            if flag not in first:
                first[flag] = [flag]
                parts.append(first[flag])
            current = first[flag]
            current += argument.split("=", 1)[1:]
    return list(itertools.chain.from_iterable(parts))


def first_paragraph(documented: type | Callable) -> str:
    """Of a docstring, in one line."""
    return " ".join(inspect.getdoc(documented).partition("\n\n")[0].split())


def name_of(argument: str) -> str:
    """`--batch_sizes=4` -> `--batch-sizes`"""
    return argument.partition("=")[0].replace("_", "-")


def _refuse_misuse(prog: str, flags: list[str]) -> Callable[[misuse.ParseErrorEvent], None]:
    """Says in one sentence what tyro would print a box of several lines for."""

    def refuse(event: misuse.ParseErrorEvent) -> None:
        see = f"see `{prog} --help`"
        match event:
            case (
                misuse.UnrecognizedArgs(tokens=[first, *_])
                | misuse.MissingArgs(unrecognized_tokens=[first, *_])
            ):
                close = difflib.get_close_matches(name_of(first), flags, n=1)
                raise InputError(
                    f"{first} is unknown: " + (f"did you mean {close[0]}?" if close else f"{see}.")
                )
            case misuse.MissingArgs(missing_arguments=missing):
                lacking = ", ".join(one.arg.display_name() for one in missing)
                verb = "is" if len(missing) == 1 else "are"
                raise InputError(f"{lacking} {verb} missing: {see}.")
            case misuse.InvalidChoice(argument=argument, value=value, choices=choices):
                among = ", ".join(choices)
                raise InputError(f"{argument.display_name()} {value!r}: choose one of {among}.")
            case misuse.BadValue(argument=argument):
                raise InputError(f"{argument.display_name()} was given no value: {see}.")
            case misuse.InstantiationFailure(argument=argument, message=message) if argument:
                reason = message.splitlines()[0].removesuffix(".")
                raise InputError(f"{argument.display_name()}: {reason}: {see}.")
            # What later versions of tyro refuse besides, they say themselves.

    return refuse
