"""Where the processes of a training meet: torch's store of keys, by which they find each other,
compare what they are, show that they live, and say why they end.

Whatever blocks inside torch hears no signal, so that all waiting is done here, in small pieces."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psutil
import torch.distributed as dist

from components.train.devices.world import World
from shared.errors import InputError, WorkFailed
from shared.servers import patience_s, within

ANSWER_S = 5.0  # of the store, which has nothing to compute
TELL_S = 2.0  # to reach the others, for one that ends before it has
LOOK_S = 0.1
FAREWELL_S = 5.0  # in which the others read why all end, before the store is closed
WORD = "why all end"  # key; the first word is the one


class Ended(WorkFailed):
    """Another process has ended this training; said by it already, where it could."""


class RefusedElsewhere(InputError):
    """Another process has refused this training, and said so."""


class Meeting:
    """The place, as one process has it."""

    def __init__(self, world: World, address: str, port: int):
        """address, port: of the place, "" where the world has none."""
        self.world, self.address, self.port = world, address, port
        self.store: dist.Store | None = None  # once it is reached
        self._opened: dist.TCPStore | None = None

    # Opening and closing it.

    def open(self) -> None:
        """Open the place. Raises InputError where its port is taken."""
        address = self.address or "localhost"
        try:
            self._opened = dist.TCPStore(
                address, self.port, None, True, timedelta(seconds=ANSWER_S), wait_for_workers=False
            )
        except dist.DistError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"MASTER_PORT {self.port} cannot be opened on this node, where all are to meet "
                f"({reason}): give a port that is free."
            ) from None
        # A name of this node that others know may not lead back to it.
        self.address, self.port = "localhost", self._opened.port

    def close(self, limit_s: float) -> None:
        """Wait until those that have come have left, for so long."""
        until, world = time.monotonic() + limit_s, self.world
        own = range(world.rank, world.rank + (1 if world.is_rank else world.local_size))
        others = [rank for rank in range(world.size) if rank not in own]
        store = _named(self._opened)
        while time.monotonic() < until:
            if all(
                store.check([f"left {rank}"]) or not store.check([f"came {rank}"])
                for rank in others
            ):
                return
            time.sleep(LOOK_S)

    def reach(self, limit_s: float) -> dist.Store:
        """A connection of its own to the place. Raises WorkFailed where nobody is there in time."""
        until = time.monotonic() + limit_s
        while True:
            try:
                return _named(within(2 * ANSWER_S, self._connect))
            except (OSError, dist.DistError) as error:
                reason = str(error).splitlines()[0]
            if time.monotonic() > until:
                raise WorkFailed(
                    f"nobody was met at {self.address}:{self.port} in {limit_s:g} s ({reason}): "
                    "see that node 0 is started too, and that this address leads to it from here."
                )
            time.sleep(LOOK_S)

    def _connect(self) -> dist.TCPStore:
        socket.create_connection((self.address, self.port), timeout=ANSWER_S).close()
        answer = timedelta(seconds=ANSWER_S)
        return dist.TCPStore(self.address, self.port, None, False, answer, wait_for_workers=False)

    # Meeting.

    def meet(self, what_it_is: dict[str, Any]) -> None:
        """Wait for all. Raises WorkFailed where one does not come in time, or twice, and InputError
        where one is something else, for which `what_it_is` has the words."""
        world, limit_s = self.world, 5 * patience_s()
        until = time.monotonic() + limit_s
        self.store = store = self.reach(limit_s)
        if store.add(f"came {world.rank}", 1) > 1:
            raise WorkFailed(
                f"{self.named(world.rank)} is there already: see that each node has a number of "
                "its own and starts as many processes, or wait until an earlier training has ended."
            )
        store.set(f"beat {world.rank}", "0")
        store.set(f"is {world.rank}", json.dumps(what_it_is))
        keys = [f"is {rank}" for rank in range(world.size)]
        while not store.check(keys):
            if word := self.heard():
                raise word
            if time.monotonic() > until:
                missing = [rank for rank, key in enumerate(keys) if not store.check([key])]
                raise WorkFailed(
                    f"{self.named(*missing)} did not come to {self.address}:{self.port} in "
                    f"{limit_s:g} s: look there for the reason, and start all nodes together."
                )
            time.sleep(LOOK_S)
        everybody = [json.loads(store.get(key)) for key in keys]
        for rank, other in enumerate(everybody):
            for what, value in other.items():
                if value != everybody[0][what]:
                    raise InputError(
                        f"{self.named(rank)} has {what} {value}, but {self.named(0)} has "
                        f"{everybody[0][what]}: start all with the same image and options."
                    )

    def leave(self) -> None:
        """Say that this process is done here; the place may then be closed."""
        with contextlib.suppress(dist.DistError, OSError):
            if self.store is not None:
                within(TELL_S, lambda: self.store.set(f"left {self.world.rank}", "1"))

    def named(self, *ranks: int) -> str:
        """Processes for people: by their nodes, where all of a node are meant."""
        world = self.world
        if world.nodes == 1:
            return f"rank {', '.join(map(str, ranks))}"
        nodes = sorted({rank // world.local_size for rank in ranks})
        if world.local_size == 1 or len(ranks) == len(nodes) * world.local_size:
            return f"node {', '.join(map(str, nodes))}"
        return f"rank {', '.join(map(str, ranks))} on node {', '.join(map(str, nodes))}"

    # The last word.

    def tell(self, end: BaseException) -> None:
        """Say to the others why this process ends, unless somebody has said why all do."""
        if isinstance(end, Ended | RefusedElsewhere):
            return
        kind, text = "failed", str(end)
        if isinstance(end, InputError):
            kind = "refused"
        elif isinstance(end, SystemExit | KeyboardInterrupt):
            code = end.code if isinstance(end, SystemExit) else 128 + signal.SIGINT
            if not isinstance(code, int) or code <= 128:
                return
            kind, text = "stopped", signal.Signals(code - 128).name
        elif not isinstance(end, WorkFailed):
            kind = "crashed"
        word = dict(rank=self.world.rank, kind=kind, text=text)
        with contextlib.suppress(OSError, dist.DistError, WorkFailed):
            store = self.store or _named(self._opened or within(TELL_S, self._connect))
            within(TELL_S, lambda: store.compare_set(WORD, "", json.dumps(word)))

    def heard(self) -> Exception | None:
        """Why all end, as another has said it, to be raised. Raises DistError."""
        if not self.store.check([WORD]):
            return None
        word = json.loads(self.store.get(WORD))
        rank, text = word["rank"], word["text"]
        node = rank // self.world.local_size
        of = f"node {node}: " if node != self.world.node else ""
        match word["kind"]:
            case "refused":
                return RefusedElsewhere(f"{of}{text}")
            case "failed":
                return Ended(f"{of}{text}")
            case "crashed":
                return Ended(
                    f"{self.named(rank)} ended by an error that its own log shows, and all were "
                    "ended."
                )
        return Ended(
            f"node {node} was stopped by {text}, and all were ended: what was saved is kept, and "
            "the same command on all nodes goes on from there."
        )


def _named(store: dist.Store) -> dist.Store:
    """The part of a store that is ours; torchrun keeps its own things there, and opens it once for
    all restarts."""
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"pix2pixhd/{restart}", store)


@contextlib.contextmanager
def meeting(world: World) -> Iterator[Meeting]:
    """The place where the processes of a world will meet; open, where this one is to open it. What
    ends the block is said to the others. A world of one has an empty place."""
    place = Meeting(world, world.address, world.port)
    if world.size == 1:
        yield place
        return
    if world.opens_meeting:
        place.open()
    ended_well = False
    try:
        yield place
        ended_well = True
    except BaseException as end:
        place.tell(end)
        raise
    finally:
        place.leave()
        if world.opens_meeting:
            place.close(patience_s() if ended_well else FAREWELL_S)


def use_interface_to(address: str) -> None:
    """Let gloo take the network by which others are reached; by itself it takes that of this
    machine's name, which may lead nowhere from others. A choice of the user's own stays."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        own = probe.getsockname()[0]
        for name, addresses in psutil.net_if_addrs().items():
            if own in {one.address for one in addresses}:
                os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
