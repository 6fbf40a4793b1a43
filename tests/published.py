"""Names and shapes in the published weight files of NVIDIA's pix2pixHD and junyanz' pix2pix, from
their layer specs, by hand."""

import torch


def conv(key, n_out, n_in, kernel, bias=True):
    state = {f"{key}.weight": torch.empty(n_out, n_in, kernel, kernel, device="meta")}
    return state | ({f"{key}.bias": torch.empty(n_out, device="meta")} if bias else {})


def transposed(key, n_in, n_out, kernel, bias=True):
    state = {f"{key}.weight": torch.empty(n_in, n_out, kernel, kernel, device="meta")}
    return state | ({f"{key}.bias": torch.empty(n_out, device="meta")} if bias else {})


def batch_norm(key, channels):
    names = ("weight", "bias", "running_mean", "running_var")
    state = {f"{key}.{name}": torch.empty(channels, device="meta") for name in names}
    return state | {f"{key}.num_batches_tracked": torch.empty((), dtype=torch.int64, device="meta")}


def block(key, channels):
    keys = (f"{key}.conv_block.1", f"{key}.conv_block.5")
    return conv(keys[0], channels, channels, 3) | conv(keys[1], channels, channels, 3)


def nvidia_global(channels=36, ngf=64, photo=3):
    state = conv("model.1", ngf, channels, 7)
    for index, width in ((4, 1), (7, 2), (10, 4), (13, 8)):
        state |= conv(f"model.{index}", 2 * width * ngf, width * ngf, 3)
    for index in range(16, 25):
        state |= block(f"model.{index}", 16 * ngf)
    for index, width in ((25, 16), (28, 8), (31, 4), (34, 2)):
        state |= transposed(f"model.{index}", width * ngf, width * ngf // 2, 3)
    return state | conv("model.38", photo, ngf, 7)


def nvidia_local(channels=36, ngf=32, photo=3):
    state = nvidia_global(channels, 2 * ngf)
    state = {key: tensor for key, tensor in state.items() if not key.startswith("model.38")}
    state |= conv("model1_1.1", ngf, channels, 7) | conv("model1_1.4", 2 * ngf, ngf, 3)
    for index in range(3):
        state |= block(f"model1_2.{index}", 2 * ngf)
    return state | transposed("model1_2.3", 2 * ngf, ngf, 3) | conv("model1_2.7", photo, ngf, 7)


def nvidia_encoder(last="model.29", photo=3):
    state = conv("model.1", 16, photo, 7)
    for index, width in ((4, 16), (7, 32), (10, 64), (13, 128)):
        state |= conv(f"model.{index}", 2 * width, width, 3)
    for index, width in ((16, 256), (19, 128), (22, 64), (25, 32)):
        state |= transposed(f"model.{index}", width, width // 2, 3)
    return state | conv(last, 3, 16, 7)


def nvidia_discriminator(keys, channels=39, num_D=2):
    """`keys`: those of the five convolutions of a scale."""
    widths, state = (channels, 64, 128, 256, 512, 1), {}
    for scale in range(num_D):
        for key, n_in, n_out in zip(keys, widths, widths[1:], strict=False):
            state |= conv(key.format(scale), n_out, n_in, 4)
    return state


WITH_FEATURES = [f"scale{{}}_layer{j}.0" for j in range(5)]
WITHOUT_FEATURES = [f"layer{{}}.{n}" for n in (0, 2, 5, 8, 11)]


def junyanz_unet(downs=8, ngf=64, picture=3, photo=3):
    widths = [ngf * width for width in (1, 2, 4, *[8] * (downs - 3))]
    state = conv("model.model.0", ngf, picture, 4, bias=False)
    state |= transposed("model.model.3", 2 * ngf, photo, 4)
    place = "model.model.1.model"
    for outer, inner in zip(widths[:-2], widths[1:-1], strict=True):
        state |= conv(f"{place}.1", inner, outer, 4, bias=False)
        state |= batch_norm(f"{place}.2", inner)
        state |= transposed(f"{place}.5", 2 * inner, outer, 4, bias=False)
        state |= batch_norm(f"{place}.6", outer)
        place += ".3.model"
    widest = widths[-1]
    state |= conv(f"{place}.1", widest, widest, 4, bias=False)
    state |= transposed(f"{place}.3", widest, widest, 4, bias=False)
    return state | batch_norm(f"{place}.4", widest)


def junyanz_resnet(n_blocks=9, dropout=True, picture=3, photo=3):
    second = 6 if dropout else 5
    state = conv("model.1", 64, picture, 7, bias=False) | batch_norm("model.2", 64)
    for index, width in ((4, 64), (7, 128)):
        state |= conv(f"model.{index}", 2 * width, width, 3, bias=False)
        state |= batch_norm(f"model.{index + 1}", 2 * width)
    for index in range(10, 10 + n_blocks):
        for first in (1, second):
            state |= conv(f"model.{index}.conv_block.{first}", 256, 256, 3, bias=False)
            state |= batch_norm(f"model.{index}.conv_block.{first + 1}", 256)
    for index, width in ((10 + n_blocks, 256), (13 + n_blocks, 128)):
        state |= transposed(f"model.{index}", width, width // 2, 3, bias=False)
        state |= batch_norm(f"model.{index + 1}", width // 2)
    return state | conv(f"model.{17 + n_blocks}", photo, 64, 7)


def junyanz_discriminator(channels=6):
    state = conv("model.0", 64, channels, 4)
    for index, width in ((2, 64), (5, 128), (8, 256)):
        state |= conv(f"model.{index}", 2 * width, width, 4, bias=False)
        state |= batch_norm(f"model.{index + 1}", 2 * width)
    return state | conv("model.11", 1, 512, 4)


def junyanz_pixel_discriminator():
    state = conv("net.0", 64, 6, 1) | conv("net.2", 128, 64, 1, bias=False)
    return state | batch_norm("net.3", 128) | conv("net.5", 1, 128, 1, bias=False)


def with_values(state, seed=0):
    """Random weights of the references' initialisation; statistics of BatchNorm that a training
    could have left."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            values[key] = torch.tensor(7)
        elif tensor.ndim == 4 or f"{key.rpartition('.')[0]}.running_var" not in state:
            values[key] = 0.02 * torch.randn(tensor.shape, generator=generator)
        else:
            # Positive, as variances are.
            values[key] = 0.5 + torch.rand(tensor.shape, generator=generator)
    return values
