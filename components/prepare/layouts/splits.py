"""Which pairs of a source are for training and which for testing."""

import hashlib

from components.prepare.layouts.pairing import RawPair
from components.prepare.layouts.sources import Source
from components.prepare.problems import Problem
from shared.errors import InputError


def choose_splits(
    source: Source,
    train_splits: str,
    test_splits: str,
    test_fraction: float,
    seed: int,
    max_images: int,
    test_only: bool = False,
) -> tuple[dict[str, list[RawPair]], list[Problem]]:
    """{"train": pairs, "test": pairs}, each sorted by name, and what is wrong with the choice:
    splits that are not there, a choice that contradicts itself or leaves nothing. One pair alone is
    trained on.

    Args:
        train_splits: The source's splits to train on, as "train,val"; "" takes train, or what lies
            in no split.
        test_splits: Those to test on; "" takes val, or else test.
        test_fraction: Share of the training pairs that is cut off for testing instead, in [0, 1); 0
            cuts none.
        seed: Seed of that cut, which otherwise depends on nothing but the names.
        max_images: Pairs taken of each of the two, the first by name; 0 takes all.
        test_only: Whether none is for training: all that there are, or the usual ones to test on,
            are for testing.

    Raises InputError for flags that contradict each other.
    """
    assert 0 <= test_fraction < 1, test_fraction
    if test_splits and test_fraction:
        raise InputError(
            f"--test-fraction {test_fraction} cuts the test pairs off the training pairs but "
            f"--test-splits {test_splits} takes them from elsewhere: leave one out."
        )

    # None to train on.
    problems: list[Problem] = []
    if test_only:
        if train_splits or test_fraction:
            flag = f"--train-splits {train_splits}" if train_splits else "--test-fraction"
            raise InputError(f"--test-only leaves nothing for training: leave {flag} out.")
        test_from = _given(source, "--test-splits", test_splits, problems)
        if not test_splits:
            test_from = _first_there(source, _usual_tests(source)) or [*source.pairs]
        return {"train": [], "test": _join(source, test_from, problems)[: max_images or None]}, (
            problems
        )

    # The source's splits to train on, and those to test on.
    train_from = _given(source, "--train-splits", train_splits, problems)
    if not train_splits:
        train_from = _first_there(source, ["train", ""])
    if not train_from and not problems:
        found = f"has no split train ({_found(source)})"
        remedy = "name one with --train-splits, or say --test-only to train on none"
        problems.append(_of_splits(source, found, remedy))
    test_from = _given(source, "--test-splits", test_splits, problems)
    for split in set(test_from) & set(train_from):
        found = f"has split {split}, which --test-splits names but which is trained on"
        problems.append(_of_splits(source, found, "give each split to one of the two"))
        test_from.remove(split)
    is_alone = sum(map(len, source.pairs.values())) == 1  # trained on, and tested on none
    if not test_splits and not test_fraction:
        usual = [split for split in _usual_tests(source) if split not in train_from]
        test_from = _first_there(source, usual)
        if not test_from and not is_alone:
            remedy = "cut one off with --test-fraction 0.1, or name one with --test-splits"
            found = f"has no split for testing ({_found(source)})"
            problems.append(_of_splits(source, found, remedy))

    # Their pairs, or a part of the training pairs.
    chosen = {
        "train": _join(source, train_from, problems),
        "test": _join(source, test_from, problems),
    }
    if test_fraction and chosen["train"] and not is_alone:
        chosen = _cut(chosen["train"], test_fraction, seed)
        if not chosen["train"] or not chosen["test"]:
            found = (
                f"is left {len(chosen['train'])} pairs for training and {len(chosen['test'])} "
                f"with photo for testing by --test-fraction {test_fraction}"
            )
            remedy = "give more pairs, or name splits with --test-splits"
            if not any(pair.photo for pairs in chosen.values() for pair in pairs):
                remedy = "add the photos, or say --test-only for maps that are to be painted"
            problems.append(_of_splits(source, found, remedy))

    # A pair without photo can be tested on, not trained on.
    problems += [
        Problem("missing photo", pair.input, "is without photo")
        for pair in chosen["train"]
        if pair.photo is None
    ]
    return {split: pairs[: max_images or None] for split, pairs in chosen.items()}, problems


def _of_splits(source: Source, found: str, remedy: str) -> Problem:
    return Problem("splits", source.root, found, remedy)


def _given(source: Source, flag: str, splits: str, problems: list[Problem]) -> list[str]:
    """The splits that a flag names and that are there, each once; adds to `problems`."""
    names = list(dict.fromkeys(name.strip() for name in splits.split(",") if name.strip()))
    for name in names:
        if name not in source.pairs:
            found = f"has no split {name}, which {flag} names ({_found(source)})"
            problems.append(_of_splits(source, found, "name one that it has"))
    return [name for name in names if name in source.pairs]


def _usual_tests(source: Source) -> list[str]:
    """The splits to test on, the best first. The labels of Cityscapes' own test split are
    dummies."""
    return ["val"] if source.layout == "cityscapes" else ["val", "test"]


def _first_there(source: Source, splits: list[str]) -> list[str]:
    return [split for split in splits if split in source.pairs][:1]


def _found(source: Source) -> str:
    names = [split for split in source.pairs if split]
    return f"found {', '.join(names)}" if names else "found no splits"


def _join(source: Source, splits: list[str], problems: list[Problem]) -> list[RawPair]:
    """The pairs of several splits by name; adds to `problems`."""
    joined: dict[str, RawPair] = {}
    for split in splits:
        for pair in source.pairs[split]:
            if (first := joined.setdefault(pair.name, pair)) is not pair:
                same = f"has the same name as {first.input}"
                problems.append(Problem("duplicate name", pair.input, same))
    return [joined[name] for name in sorted(joined)]


def _cut(pairs: list[RawPair], fraction: float, seed: int) -> dict[str, list[RawPair]]:
    """Cut off as test pairs those whose hashed names come first: another pair more or less changes
    hardly any of them.

    Only pairs with a photo are cut off: a photo forgotten in the training set is to be missed, not
    hidden.
    """
    hashed = sorted(
        (hashlib.sha256(f"{seed}:{pair.name}".encode()).digest(), pair.name)
        for pair in pairs
        if pair.photo
    )
    test = {name for _, name in hashed[: max(1, round(len(hashed) * fraction))]}
    return {
        "train": [pair for pair in pairs if pair.name not in test],
        "test": [pair for pair in pairs if pair.name in test],
    }
