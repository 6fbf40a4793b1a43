"""What fuzzing has found stays mended, each by the input that showed it or a smaller one; and the
fuzzer finds what it is there for."""

import io
import os
import pickle
import signal
import time
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch

from components.train.saved.state import NEEDED
from shared.data.images import encode_array
from shared.errors import InputError
from shared.networks.weight_file import load_state
from tests.fuzz import engine
from tests.fuzz.__main__ import TARGETS, fuzz_all
from tests.fuzz.engine import Target
from tests.fuzz.readers.answers import answer
from tests.fuzz.readers.weights import saved


def changed(place: bytes, by: bytes, example: int = 0) -> Callable[[list[bytes]], bytes]:
    """The input that an example becomes where the first `place` is something else."""

    def change(examples: list[bytes]) -> bytes:
        assert place in examples[example]
        return examples[example].replace(place, by, 1)

    return change


def cut(left: int, example: int = 0) -> Callable[[list[bytes]], bytes]:
    return lambda examples: examples[example][:left]


def without_palette(examples: list[bytes]) -> bytes:
    """A PNG of a grey channel that says it has numbers of colours."""
    header = examples[1][12:25] + b"\3" + examples[1][26:29]
    return examples[1][:12] + header + zlib.crc32(header).to_bytes(4, "big") + examples[1][33:]


def taking_int8(examples: list[bytes]) -> bytes:
    """A graph that is loaded but cannot be run on label maps."""
    model = onnx.load_from_string(examples[0])
    for given in model.graph.input:
        given.type.tensor_type.elem_type = onnx.TensorProto.INT8
    return model.SerializeToString()


def with_long_name(legacy: bool) -> bytes:
    """A file of torch that needs a class of 200,000 letters."""
    program = b"\x80\2c" + b"a" * 200_000 + b"\nb\n."
    if legacy:
        head = (0x1950A86A20F9469CFC6C, 1001, {})
        return b"".join(pickle.dumps(one, 2) for one in head) + program
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


DEEP = b'{"a":' * 3000
FINDINGS: list[tuple[str, bytes | Callable[[list[bytes]], bytes]]] = [
    ("features", b"PK\5\6" + b"\xff" * 18),
    ("features", changed(b"PK\1\2", b"PK\1\0")),
    ("features", changed(b"'<i4'", b"'|O8'")),
    ("weight-file", b"\x80"),
    ("weight-file", changed(b"PK\1\2", b"PK\1\0")),
    ("weight-file", changed(b"PK\3\4", b"PK\3\0")),
    ("weight-file", changed(b"a.weight", b"b.weight")),
    ("weight-file", cut(90, example=2)),
    ("weight-file", lambda _: b"\x80\x02cmemory\nallocate memory\n."),
    ("weight-file", with_long_name(legacy=False)),
    ("weight-file", with_long_name(legacy=True)),
    ("training-state", lambda _: saved(dict.fromkeys(NEEDED, 1))),
    ("training-state", lambda _: saved(dict.fromkeys(NEEDED, {}))),
    ("png", without_palette),
    ("tiff", changed(b"\x15\1\3\0", b"\x15\1\7\0")),  # samples a pixel, as bytes
    ("labels-json", changed(b'"n0"', b'"%s"' % (b"n" * 5000))),
    ("labels-yaml", b"- {id: 0, name: sky, colour: [70, 130, 180]}\n" * 5000),
    ("npy", encode_array(np.full((2, 2), np.nan, np.float32))),
    ("labels-json", DEEP),
    ("remap", DEEP),
    ("remap", b"\xff" * 5000),
    ("zip", changed(b"train_A/a.png", b"x" * 13)),
    ("ledger", b"[1]"),
    ("ledger", b'{"file": ["a"]}'),
    ("ledger", b'{"file": "a.png"}\n{"complete": "folder"}'),
    ("ledger", b'{"complete": "file"}'),
    ("ledger", b"\x80"),
    ("ledger", DEEP),
    ("journal-of-pairs", b"1\n"),
    ("journal-of-pairs", b'["train", {}, "", ""]\n'),
    ("journal-of-pairs", b"\xac\n"),
    ("journal-of-pairs", changed(b'"height": 4', b'"height": 1e999')),
    ("onnx", b"\x08\x07"),
    ("onnx", cut(100)),
    ("onnx", lambda examples: examples[1]),
    ("onnx", taking_int8),
    ("distance-network", lambda examples: examples[0].replace(b"\n\1a", b"\n\1\xff")),
    ("ais-bench-summary", b"{"),
    ("ais-bench-summary", changed(b"666.6", b"NaN")),
    ("ais-bench-summary", changed(b'"0"', b'"1"')),
    ("ais-bench-lines", changed(b"median = 1.5", b"median = .")),
    ("times", b"a/" * 5000),
    ("times", b"0 0 " + b"1" * 5001 + b" * *"),
    ("sentences", b"--device npu, " * 6_000),
    ("kfp-server", answer(b"\xa2", status="400 Bad")),
    ("kfp-server", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n{"),
    ("kfp-server", answer(b"", "Location: http://127[R*/", status="302 Found")),
    ("image-registry", b"HTTP/1.1 \xa2 OK\r\n\r\n"),
    ("image-registry", answer(b"", 'WWW-Authenticate: Bearer realm="file:///x"', status="401 No")),
    ("tracking-journal", b'{"run": "train", "kind": "metrics", "time": 1, "values": {"a": 1}}\n'),
    ("tracking-journal", b'{"run": "t", "kind": "metrics", "time": 1, "values": 1, "step": 1}\n'),
    ("tracking-notes", b'{"figures": "x", "files": -1}'),
    ("tracking-notes", b'{"figures": 18446744073709551616, "files": 0}'),
    ("tracking-notes", b'{"figures": 900, "files": 900, "postponed": [800]}'),
]  # fmt: skip


@pytest.mark.parametrize(
    "name, made", FINDINGS, ids=[f"{name}-{number}" for number, (name, _) in enumerate(FINDINGS)]
)
def test_a_finding_is_answered(name, made, tmp_path):
    target = TARGETS[name]
    examples = target.make(tmp_path)
    content = made(examples) if callable(made) else made
    _, crash, told = engine.attempt(target, tmp_path / target.file, content)
    assert not crash, told


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_are_good(name, tmp_path):
    """Of each reader some example is taken: else it would be tried on what it refuses at once."""
    target = TARGETS[name]
    examples = target.make(tmp_path)
    answers = [engine.attempt(target, tmp_path / target.file, one) for one in examples]
    assert not any(crash for _, crash, _ in answers), answers
    assert any(outcome == "accepted" for outcome, _, _ in answers), answers


# No sentence advises to switch safety off.


class Somebodys:
    """Of a class that torch refuses to make, with advice to switch that off."""


@pytest.mark.parametrize("legacy", [False, True])
def test_no_sentence_quotes_torchs_advice(legacy, tmp_path):
    options = dict(_use_new_zipfile_serialization=not legacy)
    contents = [
        saved(torch.nn.Linear(1, 1), **options),
        saved({"a": Somebodys()}, **options),
        saved({"a": torch.ones(1)}, **options)[:-300],
        b"\x80\x02cos\nsystem\nX\4\0\0\0true\x85R.",
        b"\x80\x02cmemory\nallocate memory\n.",
    ]
    for content in contents:
        (tmp_path / "latest_net_G.pth").write_bytes(content)
        with pytest.raises(InputError) as refusal:
            load_state(tmp_path / "latest_net_G.pth")
        sentence = str(refusal.value)
        assert "\n" not in sentence
        for word in ("weights_only", "WeightsUnpickler", "arbitrary code", "add_safe_globals"):
            assert word not in sentence


# The fuzzer itself.


def _crashes(path) -> None:
    content = path.read_bytes()
    if content.startswith(b"{"):
        return
    if len(content) % 2:
        raise InputError("is none")
    raise KeyError(content)


def _dies(path) -> None:
    if not path.read_bytes().startswith(b"{"):
        os.kill(os.getpid(), signal.SIGKILL)


def _waits(path) -> None:
    if not path.read_bytes().startswith(b"{"):
        while True:
            pass


def _grows(path) -> None:
    if not path.read_bytes().startswith(b"{"):
        bytearray(64 << 30)


def _sleeps(path) -> None:
    if not path.read_bytes().startswith(b"{"):
        time.sleep(60)


def test_what_waits_without_working_is_a_hang_and_a_slow_machine_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "STALL_SECONDS", 0.5)
    target = Target("own", lambda folder: [b'{"a": 1}'], _sleeps)
    assert engine.fuzz(target, 1.0, seed=1, findings=tmp_path / "a").hangs
    monkeypatch.setattr(engine, "_stalls_alone", lambda *_: False)
    result = engine.fuzz(target, 1.0, seed=1, findings=tmp_path / "b")
    assert not result.hangs and not result.crashes and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "read, kind", [(_crashes, "KeyError"), (_dies, "killed by signal 9"), (_waits, "hang")]
)
def test_crashes_hangs_and_deaths_are_found_and_kept(read, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "HANG_SECONDS", 0.2)
    target = Target("own", lambda folder: [b'{"a": 1}'], read)
    result = engine.fuzz(target, 1.0, seed=1, findings=tmp_path)
    assert result.inputs > 1 and (result.hangs if kind == "hang" else result.crashes)
    (told,) = tmp_path.glob("own-*.txt")
    assert told.read_text().startswith(kind)
    assert f"--repeat {told.with_suffix('')}" in told.read_text()
    assert not told.with_suffix("").read_bytes().startswith(b"{")


def test_memory_is_bounded(tmp_path):
    """What asks for 64 GB is answered as every step answers it, and the machine lives on."""
    target = Target("own", lambda folder: [b'{"a": 1}'], _grows)
    result = engine.fuzz(target, 0.5, seed=1, findings=tmp_path)
    assert result.inputs > 5 and not result.crashes and result.sentences == 2


@pytest.mark.slow
def test_a_short_run_finds_nothing(tmp_path):
    began = time.monotonic()
    results = fuzz_all([*TARGETS.values()], 20, 1, tmp_path, turn_seconds=1)
    found = [path.read_text() for path in tmp_path.glob("*.txt")]
    assert not found, "\n\n".join(found)
    assert sum(one.inputs for one in results.values()) > 1000
    assert time.monotonic() - began < 300
