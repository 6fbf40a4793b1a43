"""Passwords, tokens and signatures, which are taken out of every text that leaves a process."""

import os
import re

HIDDEN = "***"

# user:password@ or token@ of a URL; a password may hold what ought to be escaped.
USER = re.compile(r"(?<=://)(?:[^/\s\"'<>@:]*:(?!\d+(?:[/?#]|$))[^\s\"'<>]*|[^/\s?#\"'<>]*)@")

# ?token=... and &X-Amz-Signature=... of a URL, also of one whose beginning is cut off.
SIGNED = r"sig|signature|token|secret|passw(?:or)?d|pwd|credential|policy|auth|api_?key|access_?key"
QUERY = re.compile(rf"([?&;][\w.\-]*(?:{SIGNED})[\w.\-]*=)[^&;\s\"'<>#]+", re.IGNORECASE)

# What a header gives away.
HEADER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/\-]{8,}=*")

# Variables whose values are secrets themselves.
VARIABLES = re.compile(r"TOKEN|PASSWORD|SECRET|_KEY$|CREDENTIAL")
SHORTEST = 6  # shorter values are found in innocent words


def without_secrets(text: str) -> str:
    """The text with `***` instead of user and password of URLs, signatures and tokens of their
    queries, and the values of environment variables that hold secrets."""
    text = USER.sub(f"{HIDDEN}@", text)
    text = QUERY.sub(rf"\1{HIDDEN}", text)
    text = HEADER.sub(rf"\1 {HIDDEN}", text)
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and VARIABLES.search(name) and not os.path.exists(value):
            text = text.replace(value, HIDDEN)
    return text
