"""Which of a training's processes this one is, as far as everybody needs to know; the rest is known
by components/train/devices/world.py."""

import os


def is_main() -> bool:
    """Whether this process writes and logs for all: RANK is of a process or of the node that it
    stands for, PET_NODE_RANK of a node."""
    return (os.environ.get("RANK") or os.environ.get("PET_NODE_RANK") or "0") == "0"


def is_first_of_node() -> bool:
    """Whether this process speaks for those of its node; the others share its terminal."""
    local = os.environ.get("LOCAL_RANK") or "0"  # AscendJob has a list of the node's
    return local == "0" or "," in local
