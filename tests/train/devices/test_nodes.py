"""Two nodes on loopback, started as each operator does it: equal to one process on the joined
batch; who is killed, stopped, late or other than the rest ends all in time, with the reason."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch
import torch.distributed as dist

from components.train.devices import lookout
from components.train.devices.lookout import Lookout
from components.train.devices.meeting import Ended, RefusedElsewhere, meeting
from components.train.devices.world import World
from shared.errors import InputError, WorkFailed
from tests import tiny
from tests.calling import environment
from tests.places import ROOT
from tests.train.devices import test_distributed as distributed
from tests.train.killing import flags

WAIT_SECONDS = 600  # also on a busy machine
EVERY = dict(epochs=2, epochs_decay=0, device="cpu", validate_every_epochs=0)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def node(dialect: str, number: int, port: int) -> dict[str, str]:
    """What the operator says to one of two nodes with a process each."""
    place = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    pet = {f"PET_{name}": value for name, value in place.items()}
    pet |= dict(PET_NNODES=2, PET_NODE_RANK=number, PET_NPROC_PER_NODE=1)
    of_node = dict(RANK=number, WORLD_SIZE=2) | place
    variables = {
        "TrainJob": pet,
        "AscendJob": of_node | dict(LOCAL_WORLD_SIZE=1, LOCAL_RANK="[0]"),
        "PyTorchJob": of_node | pet,
        "PyTorchJob 1.3": of_node,
        "torchrun": pet,
    }[dialect]
    return {name: str(value) for name, value in variables.items()}


def start(
    variables: dict[str, str], *command, patience_s: float = 10, within: tuple[str, ...] = ()
) -> subprocess.Popen:
    """within: The words before a command that put it somewhere."""
    ours = re.compile("(PET|TORCHELASTIC|LOCAL|MASTER)_|RANK$|WORLD_SIZE$")
    given = {name: value for name, value in environment().items() if not ours.match(name)}
    given |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables
    given["PIPELINE_PATIENCE_S"] = str(patience_s)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    command = [*within, sys.executable, *map(str, command)]
    return subprocess.Popen(command, cwd=ROOT, env=given, start_new_session=True, **pipes)


def ends(*processes: subprocess.Popen) -> list[tuple[int, str]]:
    """Exit code and stderr of each."""
    try:
        return [
            (p.wait(), said) for p in processes for _, said in [p.communicate(timeout=WAIT_SECONDS)]
        ]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def train(dataset, model, **options) -> list:
    return ["-m", "components.train", *flags(dataset, model, **EVERY | options)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder)
    return folder


# All goes well.


@pytest.mark.slow
@pytest.mark.parametrize(
    "dialect", ["TrainJob", "AscendJob", "PyTorchJob", "PyTorchJob 1.3", "torchrun"]
)
def test_two_nodes_train_as_one_process_on_the_joined_batch(dialect, dataset, tmp_path):
    port = free_port()
    by_torchrun = ["-m", "torch.distributed.run"] if dialect == "torchrun" else []
    script = [__file__, dataset, tmp_path]
    done = ends(*(start(node(dialect, one, port), *by_torchrun, *script) for one in (0, 1)))
    assert [code for code, _ in done] == [0, 0], done
    ranks = [torch.load(tmp_path / f"rank_{rank}.pt") for rank in range(2)]
    for case in distributed.CASES:
        distributed.test_all_weights_are_equal_on_both_ranks_after_every_step(ranks, case)
    for case in ("features", "pix2pix"):
        distributed.test_two_processes_are_one_on_the_joined_batch(ranks, dataset, case)


@pytest.mark.slow
def test_the_command_on_two_nodes_leaves_the_model_of_two_devices(dataset, tmp_path):
    port = free_port()
    two = [
        start(node("TrainJob", one, port), *train(dataset, tmp_path / "nodes")) for one in (0, 1)
    ]
    devices = start({}, *train(dataset, tmp_path / "devices", devices=2))
    assert [code for code, _ in ends(*two, devices)] == [0, 0, 0]
    names = sorted(path.name for path in (tmp_path / "devices").glob("*.pth"))
    assert "latest_net_G.pth" in names
    for name in names:
        assert (tmp_path / "nodes" / name).read_bytes() == (
            tmp_path / "devices" / name
        ).read_bytes()


# On machines of their own.


@pytest.fixture
def machines():
    """Two network namespaces with a cable between them: the words that put a command into each, and
    the address of the first."""
    names = [f"node-{os.getpid()}-{one}" for one in (0, 1)]
    ends_of_cable = [f"v{os.getpid()}-{one}" for one in (0, 1)]
    made = [["ip", "netns", "add", name] for name in names]
    made.append(["ip", "link", "add", ends_of_cable[0], "type", "veth", "peer", ends_of_cable[1]])
    for number, (name, end) in enumerate(zip(names, ends_of_cable, strict=True)):
        made.append(["ip", "link", "set", end, "netns", name])
        made.append(["ip", "-n", name, "addr", "add", f"10.203.0.{number + 1}/24", "dev", end])
        made += [["ip", "-n", name, "link", "set", one, "up"] for one in (end, "lo")]
    if os.getuid() or not shutil.which("ip"):
        pytest.skip("network namespaces are made by root, with ip")
    try:
        for command in made:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
        yield [("ip", "netns", "exec", name) for name in names], "10.203.0.1"
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def on_machines(machines, *command) -> list[subprocess.Popen]:
    """The command on both, which meet at the first."""
    places, address = machines
    port = free_port()
    given = [node("TrainJob", one, port) | {"PET_MASTER_ADDR": address} for one in (0, 1)]
    return [
        start(variables, *command, within=place)
        for variables, place in zip(given, places, strict=True)
    ]


@pytest.mark.slow
def test_two_machines_train_as_one_process_on_the_joined_batch(machines, dataset, tmp_path):
    done = ends(*on_machines(machines, __file__, dataset, tmp_path))
    assert [code for code, _ in done] == [0, 0], done
    ranks = [torch.load(tmp_path / f"rank_{rank}.pt") for rank in range(2)]
    for case in distributed.CASES:
        distributed.test_all_weights_are_equal_on_both_ranks_after_every_step(ranks, case)
    distributed.test_two_processes_are_one_on_the_joined_batch(ranks, dataset, "features")


@pytest.mark.slow
def test_a_cable_that_is_pulled_ends_both_machines(machines, dataset, tmp_path):
    model = tmp_path / "model"
    nodes = on_machines(machines, *train(dataset, model, epochs=10**5))
    while not any(model.glob("state/training.pt")):
        time.sleep(0.1)
        assert nodes[0].poll() is None and nodes[1].poll() is None
    name = machines[0][0][-1]
    subprocess.run(["ip", "-n", name, "link", "set", f"v{os.getpid()}-0", "down"], check=True)
    at = time.monotonic()
    for code, said in ends(*nodes):
        assert code == 1 and said.count("\n") == 1, said
        assert re.search("node 1 was lost|is gone: node 0 has ended or its network is down", said)
    assert time.monotonic() - at < 60


# One ends.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "lost", "sentence"),
    [
        (signal.SIGKILL, 1, "node 1 was lost: nothing was heard from there for 5 s"),
        (signal.SIGKILL, 0, "is gone: node 0 has ended or its network is down"),
        (signal.SIGTERM, 1, "node 1 was stopped by SIGTERM, and all were ended: what was saved"),
    ],
)
def test_a_node_that_ends_ends_the_other_which_says_why(stop, lost, sentence, dataset, tmp_path):
    port, model = free_port(), tmp_path / "model"
    begun = train(dataset, model, epochs=10**5)
    nodes = [start(node("TrainJob", one, port), *begun) for one in (0, 1)]
    while not any(model.glob("state/training.pt")):
        time.sleep(0.1)
        assert nodes[0].poll() is None and nodes[1].poll() is None
    os.killpg(nodes[lost].pid, stop) if stop == signal.SIGKILL else nodes[lost].terminate()
    at = time.monotonic()
    code, said = ends(nodes[1 - lost])[0]
    assert time.monotonic() - at < 45
    assert code == 1 and sentence in said and said.count("\n") == 1, said
    assert ends(nodes[lost])[0][0] == (-signal.SIGKILL if stop == signal.SIGKILL else 143)

    # What was saved is gone on from.
    port, goes_on = free_port(), train(dataset, model, epochs=1)
    again = [start(node("TrainJob", one, port), *goes_on) for one in (0, 1)]
    out, said = again[0].communicate(timeout=WAIT_SECONDS)
    assert "already trained" in out or "continues after" in out, said
    assert [code for code, _ in ends(*again)] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_node_1", "sentence"),
    [
        (dict(model="other"), "node 1 sees another --model"),
        (dict(epochs=3), "--epochs is 3 on node 1, but 2 on node 0"),
        (dict(dataset="nothing"), "node 1: --dataset nothing holds no manifest.json"),
    ],
)
def test_a_node_that_is_given_something_else_is_refused(of_node_1, sentence, dataset, tmp_path):
    port = free_port()
    folders = dict(dataset=dataset, model=tmp_path / "model")
    other = {
        name: tmp_path / value if name == "model" else value for name, value in of_node_1.items()
    }
    nodes = [
        start(node("TrainJob", 0, port), *train(**folders)),
        start(node("TrainJob", 1, port), *train(**folders | other)),
    ]
    (code, said), (other_code, _) = ends(*nodes)
    assert (code, other_code) == (2, 2)
    assert sentence in said


def test_a_stop_is_heard_while_the_others_are_waited_for(dataset, tmp_path):
    with socket.socket() as silent:  # something that is no meeting place, and answers nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        of_rank = dict(RANK="1", WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1")
        place = dict(MASTER_PORT=str(silent.getsockname()[1]))
        waiting = start(of_rank | place, *train(dataset, tmp_path / "model"))
        silent.settimeout(60)
        silent.accept(), silent.accept()  # of torch too, which hears nothing then
        waiting.terminate()
        at = time.monotonic()
        code, said = ends(waiting)[0]
    assert code == 143 and said.startswith("train stopped by SIGTERM: "), said
    assert time.monotonic() - at < 5


# Meetings, within this process.


@pytest.fixture
def two(monkeypatch):
    """Two nodes with a process each, the first opens the place."""
    monkeypatch.setenv("PIPELINE_PATIENCE_S", "4")
    port = free_port()
    return [World(rank, 2, 0, 1, True, rank == 0, "127.0.0.1", port) for rank in range(2)]


def both(two, first, second):
    """What is raised, or returned, by each where they are at the place."""
    ended = [None, None]

    def be(number, do):
        try:
            with meeting(two[number]) as place:
                ended[number] = do(place)
        except Exception as error:
            ended[number] = error

    threads = [threading.Thread(target=be, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return ended


def test_one_that_does_not_come_is_named_in_time(two, monkeypatch):
    monkeypatch.setenv("PIPELINE_PATIENCE_S", "0.2")
    at = time.monotonic()
    with pytest.raises(WorkFailed, match=r"^node 1 did not come to localhost:\d+ in 1 s: "):
        with meeting(two[0]) as place:
            place.meet({"code": "a"})
    assert time.monotonic() - at < 10
    with pytest.raises(WorkFailed, match=r"^nobody was met at 127\.0\.0\.1:\d+ in 1 s "):
        with meeting(two[1]) as place:
            place.meet({"code": "a"})
    assert time.monotonic() - at < 20


@pytest.mark.parametrize("other", ["code", "torch"])
def test_nodes_that_are_not_alike_are_refused(two, other):
    own = {"code": "a", "torch": "2"}
    ended = both(two, lambda place: place.meet(own), lambda place: place.meet(own | {other: "b"}))
    for error in ended:
        assert isinstance(error, InputError)
        assert f"node 1 has {other} b, but node 0 has {own[other]}: " in str(error)


def test_what_one_refuses_before_they_meet_all_say(two):
    def refuse(place):
        raise InputError("--device npu: there is none.")

    waiting, refused = both(two, lambda place: place.meet({}), refuse)
    assert isinstance(waiting, RefusedElsewhere)
    assert str(waiting) == "node 1: --device npu: there is none."
    assert str(refused) == "--device npu: there is none."


def test_two_nodes_with_one_number_are_refused(two):
    def twice(place):
        place.reach(5).add("came 0", 1)
        place.meet({})

    ended = both(two, twice, lambda place: place.meet({}))
    assert str(ended[0]).startswith("node 0 is there already: see that each node has a number")
    assert isinstance(ended[1], Ended) and str(ended[0]) in str(ended[1])


def test_a_process_that_is_silent_is_lost_and_ends_who_hangs(two, monkeypatch):
    monkeypatch.setattr(lookout, "BEAT_S", 0.05)
    monkeypatch.setattr(lookout, "LEAVE_S", 0.2)
    said = []
    monkeypatch.setattr(Lookout, "end", staticmethod(lambda end: said.append(str(end))))

    def hang(place):
        place.meet({})
        watch = Lookout(place)
        watch.limit_s = 1.0
        with watch:
            time.sleep(4)  # as a collective does

    both(two, hang, lambda place: (place.meet({}), time.sleep(4)))
    assert len(said) == 1 and said[0].startswith("node 1 was lost: nothing was heard from there")


def test_a_place_that_cannot_be_opened_is_refused(two):
    with socket.socket() as server:
        server.bind(("0.0.0.0", two[0].port))
        server.listen()
        with pytest.raises(InputError, match=f"^MASTER_PORT {two[0].port} cannot be opened"):
            with meeting(two[0]):
                pass


if __name__ == "__main__":  # on each node of the first test
    from pathlib import Path

    from components.train.devices.launch import launch

    here = World.from_environment()
    work = [Path(word) for word in sys.argv[1:]]
    with meeting(here) as place_of_all:
        if here.is_rank:
            distributed.train_all(*work)
        else:
            launch(place_of_all, distributed.train_all, *work)
    assert not dist.is_initialized()
