"""What can be wrong with a raw file, and what to do about it."""

from dataclasses import dataclass

from shared.data.formats import refusals
from shared.errors import InputError


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a file, or with the folder itself; "<file> <found>: <remedy>" is a
    sentence."""

    kind: str  # a key of REMEDIES
    file: str
    found: str
    remedy: str = ""  # where it is another one than its kind's
    # What of the file it is about, such as "label id 200", with its share of the file's pixels.
    shares: tuple[tuple[str, float], ...] = ()

    @property
    def what_to_do(self) -> str:
        return self.remedy or REMEDIES[self.kind]


# Of each kind; what explains others stands before them.
REMEDIES = {
    "doubtful layout": "say which with --layout",
    "broken link": "fetch what it leads to (git annex get, dvc pull), or remove it",
    "names differ": "say how names are made with --input-name and --photo-name",
    "duplicate name": "rename one of them",
    "unusable name": "rename the file",
    "splits": "name splits with --train-splits and --test-splits",
    **refusals.REMEDIES,
    "photo without input": "add the label maps or input pictures, or remove the photos",
    "missing photo": (
        "add the photos, remove the pairs from the training splits, or say --test-only"
    ),
    "missing instance map": (
        "add them, build them from the labels with --instances components, or say --instances none"
    ),
    "instance map without input": (
        "add the label maps or input pictures, or remove the instance maps"
    ),
    "lossy ids": (
        "save the maps as PNG where they come from, since what compression changed is lost, or say "
        "--num-labels 0 for pictures as input"
    ),
    "coloured label map": (
        "save the labels file that `--check` prints, give it as --labels, or say --num-labels 0 "
        "for pictures as input"
    ),
    "palettes differ": (
        "save the labels file that `--check` prints, give it as --labels, or save all maps with "
        "one palette"
    ),
    "unknown colours": (
        "name them in --labels (id 255: ignored), take colours that are a little off with "
        "--colour-tolerance, transparent pixels with --transparent-label"
    ),
    "wrong mode of ids": (
        "give one grey or palette channel of ids, or say --num-labels 0 for pictures as input"
    ),
    "wrong mode of picture": "give grey or colour of 8 or 16 bits a channel",
    "wrong channels": (
        "give pictures of 8 or 16 bits a channel and of one kind, or change --input-nc"
    ),
    "dark pictures": "say the number that means white with --white-level",
    "sizes differ": "give all maps of a pair one size, or one shape and a --size for all",
    "odd width": "give pictures of two equal halves",
    "looks resized": "give the maps as they were drawn, or resized to the nearest neighbour",
    "unknown label ids": (
        "raise --num-labels above them (256 at most), --remap them, or name them in --ignore-labels"
    ),
    "levels of grey": "say what they are with --remap or --ignore-labels",
    "too many components": "say --instances none, or clean the label maps",
    "instances across labels": (
        "correct the maps, build them with --instances components, or say --instances none"
    ),
    "duplicate picture": "remove one of them",
    "several scales": "nothing: each is resized from its own size",
}

# --check lists these, but prepare goes on.
ACCEPTED = {"looks resized", "instances across labels", "duplicate picture", "several scales"}


def refused(problems: list[Problem]) -> list[Problem]:
    """Those that prepare does not accept, in the order of REMEDIES: what explains others first."""
    order = [*REMEDIES]
    found = [problem for problem in problems if problem.kind not in ACCEPTED]
    return sorted(found, key=lambda problem: order.index(problem.kind))


def tell_accepted(problems: list[Problem]) -> None:
    """Print a line for each kind that prepare accepts."""
    for kind in REMEDIES:
        found = [problem for problem in problems if problem.kind == kind and kind in ACCEPTED]
        if found:
            files = f"{len(found)} file{'s' * (len(found) > 1)}"
            print(f"prepare: {kind}: {files}, e.g. {found[0].file} {found[0].found}", flush=True)


def refuse_first(problems: list[Problem]) -> None:
    """Raise InputError with the first problem as a sentence, if there is one."""
    if not (found := refused(problems)):
        return
    first = found[0]
    count = sum(problem.kind == first.kind for problem in found)
    more = f" ({count} such files)" if count > 1 else ""
    raise InputError(
        f"--raw-data: {first.file} {first.found}{more}: {first.what_to_do}; "
        "`--check` lists all problems."
    )
