"""The processes of a training as one: inside, each has its device, and collectives work."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from components.train.devices.lookout import Lookout
from components.train.devices.meeting import Meeting, use_interface_to
from shared.code_version import code_version
from shared.device import Runtime
from shared.files.room import failed
from shared.terminal.device_errors import card_problem, exchange_problem

# A long validation or save of the main one is waited for; who is lost is seen by the lookout.
COLLECTIVES = timedelta(hours=1)


@contextlib.contextmanager
def joined(meeting: Meeting, runtime: Runtime) -> Iterator[None]:
    """Inside, the processes have met, each has its device, and only the main one prints. A world of
    one does nothing.

    Raises InputError where there are fewer devices than processes, or one is not as the others;
    WorkFailed where one does not come, or is lost later."""
    world = meeting.world
    if world.size == 1:
        yield
        return

    # All are there, and alike.
    runtime.take_device(world.local_rank)
    meeting.meet(
        {
            "processes, all in all:": world.size,
            "code": code_version("train"),
            "torch": str(torch.__version__),
            "the device": runtime.name,
        }
    )
    if runtime.collectives == "gloo" and world.nodes > 1:
        use_interface_to(world.address)

    # What fails because another has ended is said by what the other said.
    with contextlib.ExitStack() as stack:
        lookout = stack.enter_context(Lookout(meeting))
        if not world.is_main:  # the others print nowhere
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            dist.init_process_group(
                runtime.collectives,
                store=dist.PrefixStore("collectives", meeting.store),
                rank=world.rank,
                world_size=world.size,
                timeout=COLLECTIVES,
            )
            yield
        except Exception as error:
            found = card_problem(error)
            if not found and (cause := lookout.explain(error)) is not error:
                raise cause from None
            if found := found or exchange_problem(error):
                raise failed(f"rank {world.rank}: {found}") from None
            raise
        # not after an exception: it could wait for ranks that no longer answer
        dist.destroy_process_group()
