"""The tests' own answer: pix2pixHD and pix2pix again, slowly, from the papers and the layer tables
of the published checkpoints.

`training` matters to BatchNorm alone; its statistics are not updated.
"""

import torch
import torch.nn.functional as F


def conv(weights, key, x, stride=1, padding=0, reflect=0):
    x = F.pad(x, [reflect] * 4, mode="reflect") if reflect else x
    weight, bias = weights[f"{key}.weight"], weights.get(f"{key}.bias")
    return F.conv2d(x, weight, bias, stride=stride, padding=padding)


def transposed(weights, key, x, output_padding=1):
    weight, bias = weights[f"{key}.weight"], weights.get(f"{key}.bias")
    return F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=output_padding)


def norm(weights, key, x, training=True):
    """What follows convolution `key`: BatchNorm where the weights have one, else InstanceNorm."""
    parent, _, index = key.rpartition(".")
    key = f"{parent}.{int(index) + 1}"
    per_channel = (1, -1, 1, 1)
    if f"{key}.weight" not in weights:
        return normalised(x, *moments(x, (2, 3)))
    if training:
        mean, variance = moments(x, (0, 2, 3))
    else:
        mean = weights[f"{key}.running_mean"].view(per_channel)
        variance = weights[f"{key}.running_var"].view(per_channel)
    x = normalised(x, mean, variance)
    return x * weights[f"{key}.weight"].view(per_channel) + weights[f"{key}.bias"].view(per_channel)


def moments(x, over):
    mean = x.mean(dim=over, keepdim=True)
    return mean, ((x - mean) ** 2).mean(dim=over, keepdim=True)


def normalised(x, mean, variance):
    return (x - mean) / (variance + 1e-5).sqrt()


def conv_norm(weights, key, x, training, **how):
    return norm(weights, key, conv(weights, key, x, **how), training)


def up(weights, key, x, training):
    return norm(weights, key, transposed(weights, key, x), training).relu()


def block(weights, key, x, training=True):
    """Dropout, which does nothing in evaluation, moves the second convolution from index 5 to 6."""
    second = 5 if f"{key}.conv_block.5.weight" in weights else 6
    y = conv_norm(weights, f"{key}.conv_block.1", x, training, reflect=1).relu()
    return x + conv_norm(weights, f"{key}.conv_block.{second}", y, training, reflect=1)


def hourglass(weights, x, n_down, n_blocks, with_head=True, training=True):
    """Indices of the table in SEED_FACTS A.1: 1, then 4 + 3i, blocks, up-convolutions, head."""
    x = conv_norm(weights, "model.1", x, training, reflect=3).relu()
    for i in range(n_down):
        x = conv_norm(weights, f"model.{4 + 3 * i}", x, training, stride=2, padding=1).relu()
    first_block = 4 + 3 * n_down
    for i in range(n_blocks):
        x = block(weights, f"model.{first_block + i}", x, training)
    for i in range(n_down):
        x = up(weights, f"model.{first_block + n_blocks + 3 * i}", x, training)
    if with_head:
        x = conv(weights, f"model.{4 + 6 * n_down + n_blocks + 1}", x, reflect=3).tanh()
    return x


def pool(x):
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def local_enhancer(weights, x, n_down, n_blocks, n_blocks_local, training=True):
    """One enhancer around the global network."""
    coarse = hourglass(weights, pool(x), n_down, n_blocks, with_head=False, training=training)
    y = conv_norm(weights, "model1_1.1", x, training, reflect=3).relu()
    y = conv_norm(weights, "model1_1.4", y, training, stride=2, padding=1).relu() + coarse
    for i in range(n_blocks_local):
        y = block(weights, f"model1_2.{i}", y, training)
    y = up(weights, f"model1_2.{n_blocks_local}", y, training)
    return conv(weights, f"model1_2.{n_blocks_local + 4}", y, reflect=3).tanh()


def patchgan(weights, keys, x, padding, training):
    """All maps; the last but one convolution and the last keep the size, the first and the last
    have no norm."""
    maps = []
    for j, key in enumerate(keys):
        x = conv(weights, key, x, stride=2 if j < len(keys) - 2 else 1, padding=padding)
        x = norm(weights, key, x, training) if 0 < j < len(keys) - 1 else x
        x = F.leaky_relu(x, 0.2) if j < len(keys) - 1 else x
        maps.append(x)
    return maps


def flat_keys(module, n_layers):
    """The keys of convolutions in one sequence: 0, then 2, 5, 8, ..."""
    return [f"{module}.0", *(f"{module}.{2 + 3 * j}" for j in range(n_layers + 1))]


def discriminator(weights, x, num_D, n_layers, features=True, training=True):
    """Finest scale first; the finest is the highest index."""
    result = []
    for scale in range(num_D - 1, -1, -1):
        if features:
            keys = [f"scale{scale}_layer{j}.0" for j in range(n_layers + 2)]
            result.append(patchgan(weights, keys, x, 2, training))
        else:
            keys = flat_keys(f"layer{scale}", n_layers)
            result.append(patchgan(weights, keys, x, 2, training)[-1:])
        x = pool(x)
    return result


def n_layer_discriminator(weights, x, n_layers, training=True):
    return patchgan(weights, flat_keys("model", n_layers), x, 1, training)[-1]


def pixel_discriminator(weights, x, training=True):
    x = F.leaky_relu(conv(weights, "net.0", x), 0.2)
    return conv(weights, "net.5", F.leaky_relu(conv_norm(weights, "net.2", x, training), 0.2))


def unet(weights, x, n_down, training=True):
    """The published U-Net with its in-place activations: what skips a level is what its LeakyReLU
    made of x."""
    x = conv(weights, "model.model.0", x, stride=2, padding=1)
    x = unet_level(weights, "model.model.1.model", x, n_down - 2, training)
    return transposed(weights, "model.model.3", F.relu_(x), output_padding=0).tanh()


def unet_level(weights, key, x, levels_inside, training):
    F.leaky_relu_(x, 0.2)
    y = conv(weights, f"{key}.1", x, stride=2, padding=1)
    if levels_inside:
        y = norm(weights, f"{key}.1", y, training)
        y = unet_level(weights, f"{key}.3.model", y, levels_inside - 1, training)
    last = f"{key}.{5 if levels_inside else 3}"
    y = norm(weights, last, transposed(weights, last, F.relu_(y), output_padding=0), training)
    return torch.cat([x, y], dim=1)


def one_hot_and_edges(labels, instances, num_labels):
    """The network's input (N, num_labels + 1, H, W), pixel by pixel, in Python."""
    n, height, width = labels.shape
    result = torch.zeros(n, num_labels + 1, height, width)
    for b in range(n):
        for y in range(height):
            for x in range(width):
                result[b, int(labels[b, y, x]), y, x] = 1
                for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    v, u = y + dy, x + dx
                    inside = 0 <= v < height and 0 <= u < width
                    if inside and instances[b, v, u] != instances[b, y, x]:
                        result[b, num_labels, y, x] = 1
    return result


def pooled_features(features, instances):
    """The paper's instance-wise average pooling, one instance at a time."""
    result = torch.zeros_like(features)
    for b in range(len(features)):
        for instance in instances[b].unique():
            inside = instances[b] == instance
            result[b, :, inside] = features[b, :, inside].mean(dim=1, keepdim=True)
    return result


def losses(D_weights, condition, fake, real, num_D, n_layers, lambda_feature_matching):
    """LSGAN and feature matching as in the paper, equations 2-5."""
    on_fake = discriminator(D_weights, torch.cat([condition, fake], 1), num_D, n_layers)
    on_real = discriminator(D_weights, torch.cat([condition, real], 1), num_D, n_layers)
    matching = torch.zeros(())
    for fake_maps, real_maps in zip(on_fake, on_real, strict=True):
        for f, r in zip(fake_maps[:-1], real_maps[:-1], strict=True):
            matching = matching + (f - r).abs().mean() * 4 / (n_layers + 1) / num_D
    return {
        "G_GAN": sum(((maps[-1] - 1) ** 2).mean() for maps in on_fake),
        "G_GAN_Feat": lambda_feature_matching * matching,
        "D_real": sum(((maps[-1] - 1) ** 2).mean() for maps in on_real),
        "D_fake": sum((maps[-1] ** 2).mean() for maps in on_fake),
    }
