"""Passwords, tokens and signatures: taken out of every text that leaves a process, and carried to
the processes that it starts by the environment, which no other user of the machine can read."""

import base64
import functools
import json
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
CARRIED = "PIPELINE_CARRIED"  # JSON: texts with secrets, by what `carried` has made of them

# user:password@ or token@ of a URL; a password may hold what ought to be escaped.
USER = re.compile(r"(?<=://)([^/\s\"'<>@:]*:(?!\d+(?:[/?#]|$))[^\s\"'<>]*|[^/\s?#\"'<>]*)@")

# What URLs are looked for in, each with its last @: from every :// to the end of a text of one word
# is quadratic.
WORD = re.compile(r"[^\s\"'<>]+")

# ?token=... and &X-Amz-Signature=... of a URL, also of one whose beginning is cut off; and whatever
# else is long and no word, but for names of things.
SIGNED = r"sig|signature|token|secret|passw(?:or)?d|pwd|credential|policy|auth|key|code|session|sas"
END = r"&;\s\"'<>#"
QUERY = re.compile(
    rf"([?&;](?=[\w.\-]*=)[\w.\-]*(?:{SIGNED})[\w.\-]*=)([^{END}]+)"
    rf"|([?&](?![\w.\-]*id=|generation=)[\w.\-]+=)(?=[^{END}]{{0,200}}\d)([^{END}]{{16,}})",
    re.IGNORECASE,
)
STORAGE = re.compile(r"\b(AccountKey=|SharedAccessKey=)([^;\s\"']+)")  # of Azure

# What a header gives away.
HEADER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/\-]{8,}=*")

# Variables whose values are secrets themselves.
VARIABLES = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|_KEY$|CREDENTIAL|_PAT$|_SAS$|CONNECTION_STR")
SHORTEST = 6  # shorter values are found in innocent words


def without_secrets(text: str) -> str:
    """The text with `***` instead of user and password of URLs, signatures and tokens of their
    queries, and of what the environment holds of secrets: as it is, in a URL, or in base64."""
    text = WORD.sub(_without_user, text)
    text = QUERY.sub(lambda found: f"{found[1] or found[3]}{HIDDEN}", text)
    text = STORAGE.sub(rf"\1{HIDDEN}", text)
    text = HEADER.sub(rf"\1 {HIDDEN}", text)
    holders = [one for one in os.environ.items() if "://" in one[1] or VARIABLES.search(one[0])]
    known = _pattern_of(tuple(holders))
    return known.sub(HIDDEN, text) if known else text


def _without_user(word: re.Match[str]) -> str:
    before, at, rest = word[0].rpartition("@")
    return USER.sub(f"{HIDDEN}@", before + at) + rest


@functools.lru_cache(8)
def _pattern_of(variables: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    """What finds the secrets of these variables."""
    secrets: set[str] = set()
    for name, value in variables:
        if VARIABLES.search(name) and not os.path.exists(value) and not name.endswith("_PATH"):
            secrets.add(value)
        secrets.update(_secrets_in(" ".join(_texts(value)) if name == CARRIED else value))
    secrets |= {unquote(one) for one in secrets}
    forms = {form for one in secrets if len(one) >= SHORTEST for form in _forms(one)}
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if forms else None


def _secrets_in(text: str) -> Iterator[str]:
    """Passwords, or tokens in their place, and what is secret in queries."""
    for word in WORD.findall(text):
        for found in USER.finditer(word[: word.rfind("@") + 1]):
            user, colon, password = found[1].partition(":")
            yield password if colon else user
    for found in QUERY.finditer(text):
        yield found[2] or found[4]
    for found in STORAGE.finditer(text):
        yield found[2]


def _forms(secret: str) -> Iterator[str]:
    """A secret as programs write it."""
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret))
    yield json.dumps(secret)[1:-1]
    # In base64, with whatever before and behind it, as in user:password: without the letters that
    # are partly of those.
    content = secret.encode(errors="surrogateescape")
    for before in range(3):
        code = base64.b64encode(bytes(before) + content).decode().rstrip("=")
        code = code[(0, 2, 3)[before] : len(code) - ((before + len(content)) % 3 > 0)]
        if len(code) >= SHORTEST:
            yield from (code, code.replace("+", "-").replace("/", "_"))


# To the processes that we start: their arguments can be read by all users of the machine.


def carried(text: str) -> str:
    """A text as argument of a process that is started from here: without its secrets, which
    `restored` gives back there."""
    shown = without_secrets(text)
    if shown != text:
        known = _known() | {shown: text}
        os.environ[CARRIED] = json.dumps(known, ensure_ascii=False)
    return shown


def restored(text: str) -> str:
    """The inverse of `carried`; any other text as it is."""
    return _known().get(text, text)


def _known() -> dict[str, str]:
    return json.loads(os.environ.get(CARRIED, "{}"))


def _texts(carried_as_json: str) -> list[str]:
    return list(json.loads(carried_as_json).values())


def of_owner(path: str | os.PathLike, flags: int) -> int:
    """An `opener` of `open`: nobody else may read the file that it makes, such as a log."""
    return os.open(path, flags, 0o600)
