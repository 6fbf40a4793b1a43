"""Inputs made from good ones, by their form: bytes, text, JSON, and files whose parts have
checksums, which stay right so that more than the checksum is tried."""

import io
import json
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

LONGEST = 1 << 18  # bytes of an input
MOST_REPEATS = 1 << 15
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
VALUES = (
    None, True, False, 0, -1, 1, 255, 256, 2**31, 2**53 + 1, 2**64, -(2**70), 10**400, 0.5, -0.0,
    1e-320, 1e308, float("inf"), float("-inf"), float("nan"), "", "0", "nan", "inf", "1e999",
    "../../x", "/etc/passwd", "a/b", ".", "..", "\0", "a\0b", "\x1b[2J", "\u202e", "\ud800",
    "é" * 300, "x" * 70_000, "<script>", "{{7*7}}", "%s%n", "http://u:p@h/?q", [], [[]], {},
    {"": {}}, [None], [0] * 5_000, {"a": {"a": {"a": 1}}},
)  # fmt: skip
WORDS = (
    "null", "true", "NaN", "Infinity", "-", "--", "~", "1e999", "0x10", "1_000", "9" * 5_000,
    "[" * 3_000, "{" * 3_000, '{"a":' * 3_000, "((", "))", "\\", '"', "'", "`", "\t", "\r", "\n",
    "\n\n", "\0", "\ufeff", "\x1b[31m", "\u2028", "\x85", "../", "/", "//", "@", ":", "://", "?",
    "#", "%", "%00", "%zz", "=", "&", "&a [*a]", "*a", "!!python/object:os.system", "!x", "<<: *a",
    "? ", "- ", "---\n", "...\n", "|\n", ">\n", "2024-13-45", "${HOME}", "{0}", "%(a)s", "é",
    "\U0001f600", "\udcff", "١٢", "²", "user:password@",
)  # fmt: skip


def mutated(content: bytes, form: str, others: list[bytes], rng: random.Random) -> bytes:
    """An input near to `content`, or between it and one of the others."""
    for _ in range(1 + int(rng.expovariate(0.7))):
        by_form, keeps_form = FORMS.get(form), True
        try:
            if by_form and rng.random() < 0.7:
                content = by_form(content, rng)
            elif form in ("text", "json") and rng.random() < 0.8:
                content = _text(content, rng)
            elif rng.random() < 0.1:
                content = _spliced(content, rng.choice(others), rng)
            else:
                content = _bytes(content, rng)
        except Exception:  # whatever its parsers say
            keeps_form = False
        # Outside of the error, which holds all that was made on the way.
        content = (content if keeps_form else _bytes(content, rng))[:LONGEST]
    return content


def _spliced(content: bytes, other: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))] + other[rng.randint(0, len(other)) :]


def _slice(length: int, rng: random.Random) -> tuple[int, int]:
    begin = rng.randint(0, length)
    return begin, min(length, begin + int(rng.expovariate(1 / 16)) + 1)


def _bytes(content: bytes, rng: random.Random) -> bytes:
    begin, end = _slice(len(content), rng)
    before, middle, after = content[:begin], content[begin:end], content[end:]
    match rng.randrange(9):
        case 0 if middle:  # a bit
            return before + bytes([middle[0] ^ 1 << rng.randrange(8)]) + middle[1:] + after
        case 1 if middle:
            return before + bytes([rng.randrange(256)]) + middle[1:] + after
        case 2:
            return before + after
        case 3:
            repeats = rng.choice((2, 3, 100, MOST_REPEATS // max(1, len(middle))))
            return before + middle * repeats + after
        case 4:
            return before + rng.randbytes(len(middle)) + after
        case 5 | 6:  # a number at an edge of its type
            size = rng.choice((1, 2, 4, 8))
            edge = (rng.choice(EDGES) + rng.choice((-1, 0, 0, 1))) % (1 << 8 * size)
            return (
                before
                + edge.to_bytes(size, rng.choice(("little", "big")))
                + content[begin + size :]
            )
        case 7:
            return before
        case _:
            return before + bytes(len(middle)) + after


def _text(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "surrogateescape")
    begin, end = _slice(len(text), rng)
    match rng.randrange(6):
        case 0 | 1:
            text = text[:begin] + rng.choice(WORDS) + text[rng.choice((begin, end)) :]
        case 2:  # a number
            found = list(re.finditer(r"-?\d+(\.\d+)?", text))
            one = rng.choice(found)
            text = text[: one.start()] + _word(rng) + text[one.end() :]
        case 3:  # lines
            lines = text.splitlines(keepends=True)
            place = rng.randrange(len(lines))
            lines[place : place + 1] = [lines[place]] * rng.choice((0, 2, 2, 1_000))
            if rng.random() < 0.3:
                rng.shuffle(lines)
            text = "".join(lines)
        case 4:  # one thing over and over: what regular expressions may choke on
            part = text[begin:end] or rng.choice(WORDS)
            text = text[:begin] + part[:64] * rng.choice((2, 50, 5_000)) + text[end:]
        case _:
            text = text[:begin] + text[end:]
    return text.encode("utf-8", "surrogateescape" if "\ud800" not in text else "replace")


def _word(rng: random.Random) -> str:
    return rng.choice(WORDS) if rng.random() < 0.3 else str(rng.choice(VALUES))[:5_000]


# JSON, one value or one a line.


def _json(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if len(lines) > 1 and content[:2] not in (b"{\n", b"[\n"):
        place = rng.randrange(len(lines))
        lines[place] = _json_value(lines[place], rng) + b"\n"
        return b"".join(lines)
    return _json_value(content, rng)


def _json_value(content: bytes, rng: random.Random) -> bytes:
    value = json.loads(content)
    places = list(_places(value))
    if not places:
        value = rng.choice(VALUES)
        return json.dumps(value).encode()
    holder, key = rng.choice(places)
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1:
            other, at = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[at]))
        case 2 if isinstance(holder, dict):
            holder[rng.choice((*map(str, VALUES[:40]), "x"))[:5_000]] = holder[key]
        case 3 if isinstance(holder, list):
            holder[key:key] = [holder[key]] * rng.choice((1, 2, 500))
        case 4 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * rng.choice((-1, 2, 0.5, 10**6)) + rng.choice((-1, 0, 1))
        case 5 if isinstance(holder[key], str):
            begin, end = _slice(len(holder[key]), rng)
            holder[key] = holder[key][:begin] + _word(rng) + holder[key][end:]
        case 6:
            holder[key] = [holder[key]]
        case _:
            holder[key] = rng.choice(VALUES)
    return json.dumps(value, indent=rng.choice((None, 2))).encode()


def _places(value: Any):
    """(holder, key) of everything inside a value."""
    keys = range(len(value)) if isinstance(value, list) else value
    for key in keys if isinstance(value, dict | list) else ():
        yield value, key
        yield from _places(value[key])


# Files of parts.


def _zip(content: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()[:200]]
    place = rng.randrange(len(members))
    name, data = members[place]
    match rng.randrange(7):
        case 0:
            del members[place]
        case 1:
            members.insert(rng.randrange(len(members)), (name, rng.choice(members)[1]))
        case 2:
            members[place] = _text(name.encode(), rng).decode("utf-8", "replace")[:60_000], data
        case 3 if len(data) > 20:  # the header of a .npy, say
            size = min(len(data), 128)
            members[place] = name, _text(data[:size], rng) + data[size:]
        case _:
            members[place] = name, _bytes(data, rng)
    buffer = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def _tar(content: bytes, rng: random.Random) -> bytes:
    """A header that says something else, with a right checksum."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        places = [member.offset for member in archive.getmembers()]
    begin = rng.choice(places)
    header = bytearray(content[begin : begin + 512])
    # name, mode, size, kind, target of a link, first part of a long name
    fields = ((0, 100), (100, 8), (124, 12), (124, 12), (156, 1), (157, 100), (345, 155))
    field, size = rng.choice(fields)
    word = _word(rng).encode("utf-8", "replace")
    new = rng.choice((_bytes(bytes(header[field : field + size]), rng), word))
    header[field : field + size] = new[:size].ljust(size, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:begin] + bytes(header) + content[begin + 512 :]


def _png(content: bytes, rng: random.Random) -> bytes:
    """Chunks that say something else, with right checksums."""
    chunks, place = [], 8
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    place = rng.randrange(len(chunks))
    kind, data = chunks[place]
    match rng.randrange(5):
        case 0:
            del chunks[place]
        case 1:
            chunks.insert(rng.randrange(len(chunks)), (kind, data))
        case 2 if kind == b"IDAT":
            chunks[place] = kind, zlib.compress(_bytes(zlib.decompress(data), rng))
        case 3:
            other = rng.choice(
                (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"eXIf", b"acTL")
            )
            chunks.insert(1, (other, rng.randbytes(rng.choice((0, 1, 3, 4, 6, 32, 768, 900)))))
        case _:
            chunks[place] = kind, _bytes(data, rng)
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return content[:8] + b"".join(parts)


def _npy(content: bytes, rng: random.Random) -> bytes:
    return _text(content[:128], rng) + content[128:]


FORMS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _json, "zip": _zip, "tar": _tar, "png": _png, "npy": _npy,
}  # fmt: skip
