"""Sizes, (height, width) in pixels: what is trained on, what the model is for, and what its padding
costs."""

from components.train.config import DataOptions
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import Architecture

Size = tuple[int, int]

# A crop below this share of the frame is no jitter but a patch: frames keep the scale of patches.
LEAST_SHARE = 0.5
LARGEST_SQUEEZE = 1.05  # of one side against the other, that no picture shows
MUCH = 2  # times the pixels


def trained_sizes(options: DataOptions, manifest: DatasetManifest) -> dict[Size, str]:
    """The sizes of what is trained on, and the name of an image for each."""
    size, crop = options.frame_size, options.crop_size
    sizes: dict[Size, str] = {}
    for pair in manifest.train:
        frame = size or (pair.height, pair.width)
        sizes.setdefault(_inside(frame, crop) if crop else frame, pair.name)
    return sizes


def deployed_size(
    options: DataOptions, architecture: Architecture, manifest: DatasetManifest
) -> tuple[Size, bool]:
    """The size that the model is for, and whether every frame is brought to it.

    pix2pix trains on crops and tests whole frames at the size of the crop (`load_size` in junyanz'
    test_options.py), to which a U-Net need not pad. Frames of another shape are made smaller until
    the crop takes one of their sides. pix2pixHD tests frames as they are."""
    frame, one_size = options.frame_size or manifest.common_size(), bool(options.size)
    crop = options.crop_size
    if not crop or not architecture.is_pix2pix:
        return frame, one_size
    if not one_size and len({(pair.height, pair.width) for pair in manifest.train}) > 1:
        return frame, one_size  # there is no one scale that was trained at

    # What the crop takes of each side.
    crop = _inside(frame, crop)
    smaller, larger = sorted(part / whole for part, whole in zip(crop, frame, strict=True))
    if larger < LEAST_SHARE or larger == 1:
        return frame, one_size
    if larger <= LARGEST_SQUEEZE * smaller:
        return crop, True
    return (round(frame[0] * larger), round(frame[1] * larger)), True


def describe_sizes(options: DataOptions, manifest: DatasetManifest, deployed: Size) -> str:
    """For people: at which sizes is trained, and for which."""
    frame = options.frame_size or manifest.common_size()
    words = as_text(frame)
    if options.crop_size and (crop := _inside(frame, options.crop_size)) != frame:
        words += f" in crops of {as_text(crop)}, for whole pictures at {as_text(deployed)}"
    return words


def padding_remark(
    options: DataOptions, architecture: Architecture, manifest: DatasetManifest, deployed: Size
) -> str:
    """A sentence on padding that makes for more than twice the work, and on how to save it; '' for
    less."""
    frame = options.frame_size or manifest.common_size()
    trained = _inside(frame, options.crop_size) if options.crop_size else frame
    for size in (trained, deployed):
        if (times := _times_padded(architecture, size)) > MUCH:
            break
    else:
        return ""

    # What it does, and what does less.
    pads = f"{architecture.netG} pads {as_text(size)} to {as_text(architecture.padded_size(*size))}"
    remedy = f"sides in multiples of {architecture.stride} are not padded"
    match architecture.netG:
        case "unet_256":
            fewer = [("--netG unet_128", {"netG": "unet_128"})]
        case "global":
            downs = range(architecture.n_downsample_global - 1, 0, -1)
            fewer = [(f"--n-downsample-global {n}", {"n_downsample_global": n}) for n in downs]
        case _:
            fewer = []
    for flag, changed in fewer:
        other = architecture.model_copy(update=changed)
        if _times_padded(other, size) < times:
            remedy = f"{flag} pads to {as_text(other.padded_size(*size))}, and {remedy}"
            break
    return f"{pads}, {times:.2g} times the pixels: {remedy}."


def as_text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _inside(frame: Size, crop: Size) -> Size:
    """A crop as large as the frame or larger takes all of that side."""
    return min(frame[0], crop[0]), min(frame[1], crop[1])


def _times_padded(architecture: Architecture, size: Size) -> float:
    height, width = architecture.padded_size(*size)
    return height * width / (size[0] * size[1])
