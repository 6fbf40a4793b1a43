"""All processes of a training and the place of this one among them, by what torchrun, the operators
of Kubernetes and `launch` say in the environment."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from shared.errors import InputError

# What torchrun gives each process, and what it reads on each node, which operators set.
OF_RANK = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
OF_NODE = ("PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE", "PET_MASTER_ADDR")
STARTED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"
MEETING_IS_OPEN = "TORCHELASTIC_USE_AGENT_STORE"  # "True": who started this rank opened the place
AS_SEEN = ("auto", "gpu", "cpu")  # of PET_NPROC_PER_NODE: as many as there are devices

# How many processes others have started, of which each would train alone.
STRANGERS = {
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
}
REMEDY = "start it as `torchrun -m components.train`, or unset what is not meant"


@dataclass(frozen=True)
class World:
    """All processes of a training and the place of this one among them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # number of its device on its node
    local_size: int = 1  # processes of each node
    # Else it stands for its node, whose processes nobody has started yet; rank is their first.
    is_rank: bool = True
    opens_meeting: bool = False  # whether it is to open the place where all meet
    address: str = ""  # of that place
    port: int = 0  # 0 = any that is free

    @property
    def is_main(self) -> bool:
        """Whether this one speaks, logs and writes."""
        return self.rank == 0

    @property
    def node(self) -> int:
        return self.rank // self.local_size

    @property
    def nodes(self) -> int:
        return self.size // self.local_size

    @classmethod
    def from_environment(
        cls, devices: int = 1, nodes: int = 1, seen: Callable[[], int] = lambda: 1
    ) -> Self:
        """The world that was set up around this process.

        Args:
            devices: Processes of a node that were asked for; 1 = as many as the environment says.
            nodes: The same of nodes.
            seen: Number of devices of this machine, where an operator leaves it to that.

        Raises InputError where the environment contradicts itself, or what was asked for.
        """
        given = {name: value.strip() for name, value in os.environ.items() if value.strip()}
        least, _, most = given.get("PET_NNODES", "").partition(":")
        if least and least == most:  # a range of one, which torchrun takes too
            given["PET_NNODES"] = least
        if STARTED_BY_TORCHRUN in given:
            world = _rank(given, devices, nodes)
        elif any(name in given for name in OF_RANK):
            local = _needed(given, "RANK", "WORLD_SIZE") and given.get("LOCAL_RANK", "")
            if re.search(r"[,\[{]", local):
                world = _node_of_ascend(given, local)
            elif local:
                world = _rank(given, devices, nodes)
            else:
                world = _node_of_kubeflow(given, devices, seen)
        elif any(name in given for name in OF_NODE):
            world = _node_of_kubeflow(given, devices, seen)
        else:
            world = _alone(given, devices, nodes)

        # As it was asked for.
        for flag, asked, found in (
            ("--devices", devices, world.local_size),
            ("--nodes", nodes, world.nodes),
        ):
            if asked not in (1, found):
                of = "processes on each node" if flag == "--devices" else "nodes"
                raise InputError(
                    f"{flag} {asked} contradicts the environment of this process, which says "
                    f"{found} {of}: leave {flag} out, or start it on what it asks for."
                )
        return world


ALONE = World()


# The dialects. `given` is the environment without what is empty.


def _alone(given: Mapping[str, str], devices: int, nodes: int) -> World:
    """Nobody says anything of other processes: this machine with its devices."""
    for name, starter in STRANGERS.items():
        if given.get(name, "1") != "1":
            raise InputError(
                f"{starter} has started {given[name]} processes ({name}), each of which would "
                f"train alone: let {starter} start one `torchrun -m components.train` on each node."
            )
    if nodes > 1:
        raise InputError(
            f"--nodes {nodes}, but nothing in the environment says which of them this is: a server "
            "starts them with --host and a --cluster file that has a launcher; else say on each "
            "`torchrun --nnodes ... -m components.train`."
        )
    return World(size=devices, local_size=devices, is_rank=devices == 1, opens_meeting=devices > 1)


def _rank(given: Mapping[str, str], devices: int, nodes: int) -> World:
    """One process of torchrun, or of somebody who sets the same."""
    _needed(given, *OF_RANK[:3])
    rank, size, local_rank = (_number(given, name) for name in OF_RANK[:3])
    _below(given, "RANK", "WORLD_SIZE")
    if "LOCAL_WORLD_SIZE" in given:
        local_size = _number(given, "LOCAL_WORLD_SIZE")
        _below(given, "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    else:
        local_size = devices if devices > 1 else max(size // nodes, 1) if nodes > 1 else 1
    if size % max(local_size, 1):
        raise InputError(
            f"WORLD_SIZE is {size}, which {local_size} processes on each node do not add up to: "
            f"{REMEDY}."
        )
    if STARTED_BY_TORCHRUN not in given:
        _agree(given, size // local_size, rank // local_size, local_size)
    if size == 1:
        return World()
    opens = rank == 0 and given.get(MEETING_IS_OPEN) != "True"
    return World(rank, size, local_rank, local_size, True, opens, *_meeting(given))


def _node_of_ascend(given: Mapping[str, str], local: str) -> World:
    """A node of MindCluster's AscendJob: RANK is the node's, WORLD_SIZE counts all NPUs, LOCAL_RANK
    lists those of the node."""
    listed = re.findall(r"[^,\s\[\]{}]+", local)
    if listed != [str(number) for number in range(len(listed))]:
        raise InputError(f"LOCAL_RANK is {local!r}, neither a number nor a list 0,1,...: {REMEDY}.")
    node, size, local_size = _number(given, "RANK"), _number(given, "WORLD_SIZE"), len(listed)
    if _number(given, "LOCAL_WORLD_SIZE", local_size) != local_size:
        raise InputError(
            f"LOCAL_RANK lists {local_size} devices but LOCAL_WORLD_SIZE is "
            f"{given['LOCAL_WORLD_SIZE']}: {REMEDY}."
        )
    if size % local_size or not size:
        raise InputError(
            f"WORLD_SIZE is {size}, which nodes of {local_size} devices (LOCAL_RANK {local}) do "
            f"not add up to: {REMEDY}."
        )
    return _node(given, node, size // local_size, local_size)


def _node_of_kubeflow(given: Mapping[str, str], devices: int, seen: Callable[[], int]) -> World:
    """A node of Trainer v2's TrainJob, which says PET_* alone; or of a PyTorchJob, whose RANK is
    the node's and whose WORLD_SIZE counts nodes, or processes."""
    if "LOCAL_WORLD_SIZE" in given:
        _needed(given, "LOCAL_RANK")

    # Processes of a node.
    told = given.get("PET_NPROC_PER_NODE", "")
    if told in AS_SEEN:
        local_size = devices if devices > 1 else max(seen(), 1)
    else:
        local_size = _number(given, "PET_NPROC_PER_NODE", devices)

    # Nodes.
    if "WORLD_SIZE" not in given:
        nodes = _number(given, "PET_NNODES", 1)
        if nodes > 1 and "PET_NODE_RANK" not in given:
            raise InputError(
                f"PET_NNODES is {nodes} but PET_NODE_RANK is not set, so that nobody knows which "
                f"node this is: {REMEDY}."
            )
        return _node(given, _number(given, "PET_NODE_RANK", 0), nodes, local_size)
    size = _number(given, "WORLD_SIZE")
    nodes = _number(given, "PET_NNODES", size)
    if size not in (nodes, nodes * local_size):
        raise InputError(
            f"WORLD_SIZE is {size}, which {nodes} nodes (PET_NNODES) of {local_size} processes "
            f"(PET_NPROC_PER_NODE) do not add up to: {REMEDY}."
        )
    return _node(given, _number(given, "RANK"), nodes, local_size)


def _node(given: Mapping[str, str], node: int, nodes: int, local_size: int) -> World:
    """The process that an operator has started on each node."""
    for what, count in (("nodes", nodes), ("processes on each node", local_size)):
        if not 1 <= count <= 2**16:
            raise InputError(f"the environment says {count} {what}: {REMEDY}.")
    if node >= nodes:
        raise InputError(
            f"this is node {node} by RANK or PET_NODE_RANK, but there are {nodes}, given from 0: "
            f"{REMEDY}."
        )
    _agree(given, nodes, node, local_size)
    if nodes == 1:
        return _alone({}, local_size, 1)
    place = _meeting(given)
    size = nodes * local_size
    return World(node * local_size, size, 0, local_size, False, node == 0, *place)


# What variables say.


def _number(given: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Raises InputError where it is none that counts something."""
    if name not in given and default is not None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", given[name]):
        raise InputError(f"{name} is {given[name]!r}, which should be a whole number: {REMEDY}.")
    return int(given[name])


def _needed(given: Mapping[str, str], *names: str) -> bool:
    """True. Raises InputError where one is not set, though others are."""
    there = next((name for name in OF_RANK if name in given), STARTED_BY_TORCHRUN)
    for name in names:
        if name not in given:
            raise InputError(f"{there} is {given[there]} but {name} is not set: {REMEDY}.")
    return True


def _below(given: Mapping[str, str], name: str, count: str) -> None:
    if _number(given, name) >= _number(given, count):
        raise InputError(
            f"{name} is {given[name]} but {count} is {given[count]}, and ranks count from 0: "
            f"{REMEDY}."
        )


def _agree(given: Mapping[str, str], nodes: int, node: int, local_size: int) -> None:
    """Raises InputError where PET_*, which torchrun would go by, says something else."""
    found = {"PET_NNODES": nodes, "PET_NODE_RANK": node}
    if given.get("PET_NPROC_PER_NODE") not in AS_SEEN:
        found["PET_NPROC_PER_NODE"] = local_size
    for name, number in found.items():
        if _number(given, name, number) != number:
            what = {"PET_NODE_RANK": "this is node {}", "PET_NNODES": "there are {} nodes"}
            other = what.get(name, "there are {} processes on each node").format(number)
            raise InputError(
                f"{name} is {given[name]}, but by RANK, WORLD_SIZE and LOCAL_RANK {other}: "
                f"{REMEDY}."
            )


def _meeting(given: Mapping[str, str]) -> tuple[str, int]:
    """Address and port at which all meet."""
    found = []
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        of_torchrun, own = given.get(f"PET_{name}"), given.get(name)
        value = own or of_torchrun
        if value is None:
            raise InputError(
                f"there are several nodes or processes, but {name} is not set: {REMEDY}."
            )
        if own and of_torchrun not in (None, own) and STARTED_BY_TORCHRUN not in given:
            raise InputError(f"{name} is {own} but PET_{name} is {of_torchrun}: {REMEDY}.")
        found.append(value)
    address, port = found
    number = _number({"MASTER_PORT": port}, "MASTER_PORT")
    if not 1 <= number <= 65535:
        raise InputError(f"MASTER_PORT is {port}, which should be from 1 to 65535: {REMEDY}.")
    return address, number
