"""Files of tensors: weights, ours and others', and the state of a stopped training."""

import io
import pickle
from pathlib import Path

import torch

from components.train.saved.state import read_stopped, state_file
from shared.networks.build import build_generator
from shared.networks.checkpoint import load_generator, load_strictly
from shared.networks.weight_file import load_state
from tests import foreign, tiny
from tests.fuzz.engine import Target

SMALL = dict(num_labels=2, ngf=1, n_downsample_global=1)


def saved(content: object, **options) -> bytes:
    torch.save(content, buffer := io.BytesIO(), **options)
    return buffer.getvalue()


def _files(folder: Path) -> list[bytes]:
    state = {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3)}
    return [
        saved(state),
        saved({"state_dict": state, "epoch": 3}),
        saved(state, _use_new_zipfile_serialization=False),
        saved({key: value.half() for key, value in state.items()}),
        saved(torch.nn.Linear(2, 3)),
        pickle.dumps(state),
        b'\x40\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      \0\0\0\0',
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n",
        b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>",
        b"\x89HDF\r\n\x1a\n" + bytes(64),
    ]


def _strict(folder: Path) -> list[bytes]:
    network = build_generator(tiny.architecture(**SMALL))
    return [saved(network.state_dict())]


def _read_strictly(path: Path) -> None:
    load_strictly(build_generator(tiny.architecture(**SMALL)), path)


def _foreign(folder: Path) -> list[bytes]:
    state = foreign.nvidia_generator(folder / "theirs", channels=36, ngf=2, n_down=1, n_blocks=1)
    hourglass = build_generator(tiny.architecture(netG="unet_128", ngf=1)).state_dict()
    return [saved(state), saved(hourglass)]


def _stopped(folder: Path) -> list[bytes]:
    a = tiny.architecture(**SMALL)
    state = dict(architecture=a.model_dump(), epoch=1, images_seen=3, metrics={"G": 1.0})
    state |= dict(G={"a": torch.ones(2)}, D={"b": torch.ones(2)}, format=1, pairs=2)
    state |= dict(facts={"learning_rate": 2e-4, "dataset": "d", "epochs": 2})
    old = state | dict(batches=3, plateau={"learning_rate": 1e-4}, E={})
    del old["pairs"]
    state_file(folder).parent.mkdir()
    return [saved(state), saved(old)]


TARGETS = [
    Target("weight-file", _files, load_state, "latest_net_G.pth", "zip"),
    Target("weights", _strict, _read_strictly, "latest_net_G.pth", "zip"),
    Target("foreign-weights", _foreign, lambda path: load_generator(path.parent),
           "latest_net_G.pth", "zip"),
    Target("training-state", _stopped, lambda path: read_stopped(path.parents[1]),
           "state/training.pt", "zip"),
]  # fmt: skip
