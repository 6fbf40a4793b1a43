"""Weight files of NVIDIA's pix2pixHD and junyanz' pix2pix: what their keys and shapes say about the
networks.

A state is what `torch.load` gives: names of tensors, in the order of the layers, and the tensors.
"""

import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from torch import Tensor

from shared.bounds import reason_of
from shared.contracts.model import LATEST, RESNETS, UNETS, Architecture, ModelCard, PhotoChannels
from shared.errors import InputError

State = dict[str, Tensor]


class UnknownChannels(InputError):
    """What the input channels of a generator stand for does not follow from its files."""


WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and DDP; torch.compile
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Keys of a multi-scale D: see `in_layout_of`.
LAYERS = re.compile(r"scale(\d+)_layer(\d+)\.(\d+)\.(\w+)")
ROW = re.compile(r"layer(\d+)\.(\d+)\.(\w+)")

# What the references build where no option says otherwise; for networks that a folder does not
# hold.
DEFAULTS = dict(
    n_local_enhancers=1, n_blocks_local=3, ndf=64, n_layers_D=3, nef=16, n_downsample_E=4
)
NUM_LABELS = 35
FEAT_NUM = 3
PICTURE_CHANNELS = 3


def without_wrappers(state: State) -> State:
    """The keys of the network itself, where all begin with the name that a wrapper gave it."""
    while state and (
        wrapper := next((w for w in WRAPPERS if all(key.startswith(w) for key in state)), None)
    ):
        state = {key.removeprefix(wrapper): tensor for key, tensor in state.items()}
    return state


def normalise(state: State) -> State:
    """Without wrappers, and without the statistics that InstanceNorm once kept, which pix2pix'
    loader drops too.

    BatchNorm's, which count, stand beside a weight.
    """
    state = without_wrappers(state)
    unused = {
        key
        for key in state
        if (parts := key.rpartition("."))[2] in STATISTICS and f"{parts[0]}.weight" not in state
    }
    return {key: tensor for key, tensor in state.items() if key not in unused}


def in_layout_of(wanted: Iterable[str], state: State) -> State:
    """The state of a multi-scale D under the kind of keys that `wanted` has; any other state as it
    is.

    With feature matching NVIDIA's are scale{i}_layer{j}.{k}, k = 0 a convolution and k = 1 its
    norm. Without it the modules of a scale stand in one row, layer{i}.{n}: a convolution and its
    activation, then three for each layer."""
    # Which kind the state has, and whether the other one is wanted.
    if state and all(map(LAYERS.fullmatch, state)):
        layout, other = LAYERS, ROW
    elif state and all(map(ROW.fullmatch, state)):
        layout, other = ROW, LAYERS
    else:
        return state
    if not all(map(other.fullmatch, wanted)):
        return state

    # Key by key.
    renamed = {}
    for key, tensor in state.items():
        scale, *place, name = layout.fullmatch(key).groups()
        place = [int(number) for number in place]
        if other is ROW:
            j, k = place
            renamed[f"layer{scale}.{3 * j - 1 + k if j else k}.{name}"] = tensor
        else:
            j, k = divmod(place[0] + 1, 3) if place[0] else (0, 0)
            renamed[f"scale{scale}_layer{j}.{k}.{name}"] = tensor
    return renamed


def refuse_old_encoder(state: State, path: Path) -> None:
    """Raises InputError for the first published encoders: their last convolution has no padding in
    front of it."""
    convs = _convs(state, "model")
    if convs and max(convs) == 4 + 3 * (len(convs) - 2):
        raise InputError(
            f"{path} is an encoder of pix2pixHD's first release, whose last convolution "
            f"(model.{max(convs)}) has no padding in front of it as today's has: train the encoder "
            "anew, or remove the file to use G alone."
        )


def infer_architecture(
    model: Path,
    states: dict[str, State],
    *,
    num_labels: int | None = None,
    input_nc: int | None = None,
    use_instances: bool | None = None,
    feat_num: int | None = None,
    unet_dropout: bool = False,
    weights: str = LATEST,
) -> Architecture:
    """The networks whose normalised states these are.

    Args:
        model: Their folder, for what is said to people.
        states: Of G and, where they are there, D and E.
        num_labels, input_nc, use_instances, feat_num: What the input channels stand for, where it
            is known, as of a data set. Otherwise D and E tell the features from the rest, and the
            rest is what the references have by default: 35 labels or a picture of 3 channels for
            pix2pixHD, with or without an edge; a picture for pix2pix.
        unet_dropout: Whether a U-Net has dropout, which leaves no trace in a file.
        weights: What the files are called, for what is said to people.

    What leaves no trace either: whether a network of 2 down-samplings and 6 or 9 blocks is pix2pix'
    or pix2pixHD's, which is the same function, and pix2pix' where no D or E tells.

    Raises InputError for networks of another kind, and for channels that could stand for several
    things."""
    # What each file says. The discriminator and the encoder tell whose the generator is.
    discriminator = _discriminator(states["D"]) if "D" in states else {}
    if discriminator is None:
        raise InputError(
            f"--model {model}: {weights}_net_D.pth is no discriminator of pix2pixHD or pix2pix: "
            "remove it."
        )
    if "E" in states:
        refuse_old_encoder(states["E"], Path(model) / f"{weights}_net_E.pth")
    encoder = _encoder(states["E"]) if "E" in states else {}
    if encoder is None:
        raise InputError(
            f"--model {model}: {weights}_net_E.pth is no encoder of pix2pixHD: remove it."
        )

    # The generator, whose pictures must be what photos are.
    is_hd = bool(encoder) or discriminator.get("netD") == "multiscale"
    generator = _generator(states["G"], is_hd)
    if generator is None:
        raise InputError(
            f"--model {model}: {weights}_net_G.pth is no generator of pix2pixHD (global, local) or "
            "pix2pix (unet_128, unet_256, resnet_6blocks, resnet_9blocks): give weights of one of "
            "these."
        )
    if generator["output_nc"] not in get_args(PhotoChannels):
        raise InputError(
            f"--model {model}: {weights}_net_G.pth makes pictures of {generator['output_nc']} "
            "channels, but photos have 1 or 3: give weights that make grey or RGB pictures."
        )
    if generator["netG"] in UNETS:
        generator["dropout"] = unet_dropout

    # What the generator's input channels stand for.
    channels = generator.pop("channels")
    channels_of_D = discriminator.pop("channels", None)
    is_pix2pix = generator["netG"] in UNETS + RESNETS
    if is_pix2pix:
        num_labels, use_instances, feat_num = num_labels or 0, use_instances or False, feat_num or 0
        input_nc = None  # what is left
    if feat_num is None and discriminator:
        feat_num = channels - (channels_of_D - generator["output_nc"])  # D sees the photo instead
    if feat_num is None and encoder:
        feat_num = encoder["feat_num"]
    splits = _splits(channels, num_labels, input_nc, use_instances, feat_num)
    if len(splits) != 1:
        known = dict(num_labels=num_labels, input_nc=input_nc, use_instances=use_instances)
        known |= dict(feat_num=feat_num)
        given = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
        raise UnknownChannels(
            f"--model {model} has no model.json, and what the {channels} input channels of its "
            f"generator stand for does not follow{f' from {given}' if given else ''}: say "
            "--num-labels (0 for pictures), --use-instances (1 channel) and --feat-num, which add "
            "up to them with the channels of a picture, to `python -m components.train adopt`."
        )

    # What no file says is as the references build it.
    usual = dict(netD="n_layers", num_D=1) if is_pix2pix else dict(netD="multiscale", num_D=2)
    fields = DEFAULTS | usual | generator | discriminator | encoder | splits[0]
    try:
        return Architecture.model_validate(fields)
    except ValidationError as error:
        raise InputError(
            f"--model {model}: {weights}_net_G.pth is of networks that are not built "
            f"({reason_of(error)}): give weights of pix2pixHD or pix2pix."
        ) from None


def card_of(
    model: Path,
    states: dict[str, State],
    digest: str,
    size: tuple[int, int] | None = None,
    **hints,
) -> ModelCard:
    """The card of a model that was trained elsewhere: by its tensors, and where they say nothing as
    its authors train it.

    Args:
        digest: Of the weight files.
        size: (height, width) in pixels that the model is for; None = its authors' size, at which
            not every frame need have been.
        hints: See `infer_architecture`.
    """
    architecture = infer_architecture(model, states, **hints)
    if architecture.is_pix2pix:
        usual = 256, 256
    else:
        usual = (1024, 2048) if architecture.netG == "local" else (512, 1024)
    height, width = size or usual
    return ModelCard(
        architecture=architecture,
        height=height,
        width=width,
        one_size=size is not None,
        epoch=0,
        images_seen=0,
        dataset_digest="",
        parent_digest="",
        digest=digest,
        config={},
        metrics={},
    )


def taken_for(named: str, card: ModelCard) -> str:
    """What `card_of` read off the tensors and what it assumed, for people; named: flag and
    folder."""
    names = "netG ngf norm dropout num_labels input_nc use_instances feat_num output_nc".split()
    found = ", ".join(f"{name} {getattr(card.architecture, name)}" for name in names)
    if card.architecture.netG in UNETS:
        found += " (dropout of a U-Net leaves no trace)"
    return (
        f"{named} has no {ModelCard.FILE}; by its tensors it has {found}; it is taken to be for "
        f"{card.height}x{card.width}"
    )


def _splits(
    channels: int,
    num_labels: int | None,
    input_nc: int | None,
    use_instances: bool | None,
    feat_num: int | None,
) -> list[dict]:
    """All that G's input channels may stand for, as fields of Architecture; None = try what the
    references have."""
    may_be_any_picture = num_labels == 0 and use_instances is not None
    splits = []
    for labels, edge, features in product(
        (NUM_LABELS, 0) if num_labels is None else (num_labels,),
        (True, False) if use_instances is None else (use_instances,),
        (0, FEAT_NUM) if feat_num is None else (feat_num,),
    ):
        if features and not labels and num_labels is None and feat_num is None:
            continue  # 7 channels are rather 7 labels than a picture, an edge and 3 features
        picture = channels - labels - edge - features
        if labels or input_nc is not None:
            fits = picture == (input_nc or 0)
        else:
            fits = picture == PICTURE_CHANNELS or (may_be_any_picture and picture > 0)
        if fits and features >= 0:
            split = dict(num_labels=labels, input_nc=picture, use_instances=edge)
            splits.append(split | dict(feat_num=features))
    return splits


def _generator(state: State, is_hd: bool) -> dict | None:
    """Fields of Architecture, and `channels` of its input; None for anything else. Its output_nc
    may be any."""
    has_norms = any(_is_norm(key, tensor) for key, tensor in state.items())
    fields = dict(norm="batch" if has_norms else "instance")

    # A U-Net, whose keys are nested.
    if "model.model.0.weight" in state:
        n_down = sum(tensor.ndim == 4 for tensor in state.values()) // 2
        ngf, channels = state["model.model.0.weight"].shape[:2]
        kinds, last = {7: "unet_128", 8: "unet_256"}, state.get("model.model.3.weight")
        if n_down not in kinds or last is None:
            return None
        fields |= dict(ngf=ngf, channels=channels, n_downsample_global=n_down, n_blocks_global=0)
        output_nc = last.shape[1]  # of a transposed convolution
        return fields | dict(netG=kinds[n_down], output_nc=output_nc)

    # A local enhancer: a global generator without its head, and an hourglass or more around it.
    enhancers = {int(m[1]) for key in state if (m := re.match(r"model(\d+)_[12]\.", key))}
    if enhancers:
        outermost = max(enhancers)
        stem = state.get(f"model{outermost}_1.1.weight")
        n_down = _hourglass(state, has_head=False)
        last = _convs(state, f"model{outermost}_2")
        if stem is None or n_down is None or not last:
            return None
        ngf, channels = stem.shape[:2]
        fields |= dict(netG="local", ngf=ngf, channels=channels, n_local_enhancers=outermost)
        fields |= dict(n_downsample_global=n_down, n_blocks_global=_blocks(state, "model"))
        fields |= dict(n_blocks_local=_blocks(state, f"model{outermost}_2"))
        return fields | dict(output_nc=last[max(last)][0])

    # A global generator, or pix2pix's ResNet, which has the same keys.
    n_down = _hourglass(state, has_head=True)
    if n_down is None:
        return None
    ngf, channels = state["model.1.weight"].shape[:2]
    n_blocks = _blocks(state, "model")
    fields |= dict(ngf=ngf, channels=channels, n_downsample_global=n_down, n_blocks_global=n_blocks)
    convs = _convs(state, "model")
    fields |= dict(output_nc=convs[max(convs)][0])
    # Dropout stands between the convolutions of a block, which makes the second one the sixth
    # module; pix2pix has no biases in front of a BatchNorm, pix2pixHD does.
    sixths = [tensor for key, tensor in state.items() if key.endswith("conv_block.6.weight")]
    dropout = any(tensor.ndim == 4 for tensor in sixths)
    only_pix2pix = dropout or "model.1.bias" not in state
    only_hd = is_hd or (fields["norm"] == "batch" and not only_pix2pix)
    if n_down == 2 and n_blocks in (6, 9) and (only_pix2pix or not only_hd):
        return fields | dict(netG=f"resnet_{n_blocks}blocks", dropout=dropout)
    return None if only_pix2pix else fields | dict(netG="global")


def _discriminator(state: State) -> dict | None:
    """Fields of Architecture, and `channels` of its input; None for anything else."""
    row = in_layout_of(["layer0.0.weight"], state)
    scales = {m[1] for key in row if (m := ROW.fullmatch(key))}
    for netD, sequence in (("multiscale", "layer0"), ("n_layers", "model"), ("pixel", "net")):
        convs = list(_convs(row, sequence).values())
        if len(convs) < 3 or f"{sequence}.0.weight" not in row:
            continue
        ndf, channels = convs[0][:2]
        fields = dict(netD=netD, num_D=max(1, len(scales)), ndf=ndf, channels=channels)
        if netD == "multiscale":
            fields |= dict(D_features=row is not state)
        return fields if netD == "pixel" else fields | dict(n_layers_D=len(convs) - 2)
    return None


def _encoder(state: State) -> dict | None:
    """Fields of Architecture; None for anything else."""
    n_down = _hourglass(state, has_head=True)
    if n_down is None:
        return None
    convs = _convs(state, "model")
    return dict(nef=convs[1][0], n_downsample_E=n_down, feat_num=convs[max(convs)][0])


def _hourglass(state: State, has_head: bool) -> int | None:
    """Down-samplings of `model`: a 7x7 convolution, 3x3 ones down and as many up, a 7x7 one; None
    for anything else."""
    kernels = [shape[-1] for shape in _convs(state, "model").values()]
    n_down = (len(kernels) - 1 - has_head) // 2
    return n_down if n_down > 0 and kernels == [7] + [3] * 2 * n_down + [7] * has_head else None


def _convs(state: State, sequence: str) -> dict[int, tuple[int, ...]]:
    """Shapes of the convolutions that stand directly in a Sequential, by their index in it, in
    order."""
    found = {}
    for key, tensor in state.items():
        if tensor.ndim == 4 and (match := re.fullmatch(rf"{sequence}\.(\d+)\.weight", key)):
            found[int(match[1])] = tuple(tensor.shape)
    return dict(sorted(found.items()))


def _blocks(state: State, sequence: str) -> int:
    """Residual blocks in a Sequential."""
    return len({m[1] for key in state if (m := re.match(rf"{sequence}\.(\d+)\.conv_block\.", key))})


def _is_norm(key: str, tensor: Tensor) -> bool:
    return key.endswith(".weight") and tensor.ndim == 1
