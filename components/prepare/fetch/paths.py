"""Paths of files as archives, stores and ledgers name them."""

from shared.files.names import LONGEST_FILE, why_no_name


def why_no_path(text: str) -> str:
    """Why a part of a path, with / between the parts, cannot name a file or folder, in words; ""
    where all can, and the path leads below where it begins."""
    return next(filter(None, (why_no_name(part, LONGEST_FILE) for part in text.split("/"))), "")
