"""pix2pixHD again, slowly, from the layer tables of the paper and of NVIDIA's checkpoints: the tests' own answer."""

import torch
import torch.nn.functional as F


def conv(weights, key, x, stride=1, padding=0, reflect=0):
    x = F.pad(x, [reflect] * 4, mode="reflect") if reflect else x
    return F.conv2d(x, weights[f"{key}.weight"], weights[f"{key}.bias"], stride=stride, padding=padding)


def norm(x):
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def transposed(weights, key, x):
    return F.conv_transpose2d(
        x, weights[f"{key}.weight"], weights[f"{key}.bias"], stride=2, padding=1, output_padding=1
    )


def block(weights, key, x):
    y = norm(conv(weights, f"{key}.conv_block.1", x, reflect=1)).relu()
    return x + norm(conv(weights, f"{key}.conv_block.5", y, reflect=1))


def hourglass(weights, x, n_down, n_blocks, with_head=True):
    """Indices of the table in SEED_FACTS A.1: 1, then 4 + 3i, blocks, up-convolutions, head."""
    x = norm(conv(weights, "model.1", x, reflect=3)).relu()
    for i in range(n_down):
        x = norm(conv(weights, f"model.{4 + 3 * i}", x, stride=2, padding=1)).relu()
    first_block = 4 + 3 * n_down
    for i in range(n_blocks):
        x = block(weights, f"model.{first_block + i}", x)
    for i in range(n_down):
        x = norm(transposed(weights, f"model.{first_block + n_blocks + 3 * i}", x)).relu()
    if with_head:
        x = conv(weights, f"model.{4 + 6 * n_down + n_blocks + 1}", x, reflect=3).tanh()
    return x


def pool(x):
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def local_enhancer(weights, x, n_down, n_blocks, n_blocks_local):
    """One enhancer around the global network."""
    coarse = hourglass(weights, pool(x), n_down, n_blocks, with_head=False)
    y = norm(conv(weights, "model1_1.1", x, reflect=3)).relu()
    y = norm(conv(weights, "model1_1.4", y, stride=2, padding=1)).relu() + coarse
    for i in range(n_blocks_local):
        y = block(weights, f"model1_2.{i}", y)
    y = norm(transposed(weights, f"model1_2.{n_blocks_local}", y)).relu()
    return conv(weights, f"model1_2.{n_blocks_local + 4}", y, reflect=3).tanh()


def discriminator(weights, x, num_D, n_layers):
    """Finest scale first; the finest is the highest index."""
    result = []
    for scale in range(num_D - 1, -1, -1):
        maps, y = [], x
        for j in range(n_layers + 2):
            y = conv(weights, f"scale{scale}_layer{j}.0", y, stride=2 if j < n_layers else 1, padding=2)
            if 0 < j <= n_layers:
                y = norm(y)
            if j <= n_layers:
                y = F.leaky_relu(y, 0.2)
            maps.append(y)
        result.append(maps)
        x = pool(x)
    return result


def one_hot_and_edges(labels, instances, num_labels):
    """Pixel by pixel, in Python."""
    n, height, width = labels.shape
    result = torch.zeros(n, num_labels + 1, height, width)
    for b in range(n):
        for y in range(height):
            for x in range(width):
                result[b, int(labels[b, y, x]), y, x] = 1
                for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    v, u = y + dy, x + dx
                    if 0 <= v < height and 0 <= u < width and instances[b, v, u] != instances[b, y, x]:
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
