"""The arithmetic of a network: what one image costs, in GFLOP and in bytes of GPU memory.

The ADM is counted layer by layer, so that any size of it is exact; DeepLab and SegFormer are their
measured full sizes, scaled. A multiply-add counts 2; forward and backward together cost three
forwards. Source of the full sizes: PyTorch's counter at 256 px. Memory: peaks of the allocator on an
H200 in TF32, `benchmarks/gpu.py`.
"""

from collections.abc import Iterator

from trainables.config import AdmConfig, DeepLabConfig, NetworkConfig, SegFormerConfig

PAPER_PIXELS = 256 * 256
TRAINING_FORWARDS = 3.0  # Forward and backward of an image, in units of a forward.

DEEPLAB_GFLOP = 81.8  # ResNet-50, output stride 8.
SEGFORMER_GFLOP = 36.3  # MiT-B3 with the 768-wide decoder.

# What grows with each image of 256 px, activations above all, and what does not: weights, gradients,
# AdamW's two moments, the workspaces of libraries.
ACTIVATION_GB = {"adm": 3.03, "deeplab": 0.273, "segformer": 0.363}
STATE_GB = {"adm": 2.0, "deeplab": 1.75, "segformer": 0.95}


def forward_gflop(network: NetworkConfig, image_size: int) -> float:
    """Return the cost of one image forward, in GFLOP (10^9)."""
    if isinstance(network, AdmConfig):
        return 2e-9 * sum(_adm_multiply_adds(network, image_size))
    reference, full = _reference(network)
    return full * _size_of(network) / _size_of(reference) * image_size**2 / PAPER_PIXELS


def training_gflop(network: NetworkConfig, image_size: int) -> float:
    """Return the cost of one image forward and backward, in GFLOP."""
    return TRAINING_FORWARDS * forward_gflop(network, image_size)


def gpu_memory_gb(network: NetworkConfig, image_size: int, images: int) -> float:
    """Return the GPU memory, in GB (10^9 bytes), that training on `images` at once takes."""
    width = _width(network) / _width(type(network)())
    activations = ACTIVATION_GB[network.family] * width * image_size**2 / PAPER_PIXELS
    return images * activations + STATE_GB[network.family] * width**2


def _reference(network: DeepLabConfig | SegFormerConfig) -> tuple[NetworkConfig, float]:
    if isinstance(network, DeepLabConfig):
        return DeepLabConfig(), DEEPLAB_GFLOP
    return SegFormerConfig(), SEGFORMER_GFLOP


def _size_of(network: NetworkConfig) -> float:
    """Return a number that grows as the cost of a network does, other things being equal."""
    if isinstance(network, DeepLabConfig):
        # A 3x3 between two 1x1 convolutions, which go to and from 64 * expansion channels.
        inner, outer = network.base_width, 64 * network.expansion
        return sum(network.blocks) * inner * (9 * inner + 2 * outer)
    assert isinstance(network, SegFormerConfig)
    stages = zip(network.depths, network.widths, strict=True)
    encoder: float = sum(depth * width**2 / 4**i for i, (depth, width) in enumerate(stages))
    return encoder + network.decoder_channels**2


def _width(network: NetworkConfig) -> float:
    if isinstance(network, AdmConfig):
        return network.channels
    if isinstance(network, DeepLabConfig):
        return network.base_width
    return sum(network.widths) / len(network.widths)


def _adm_multiply_adds(network: AdmConfig, image_size: int, outputs: int = 5) -> Iterator[float]:
    """Yield the multiply-adds of every layer, from the first convolution to the last."""
    widths = [network.channels * multiplier for multiplier in network.multipliers]
    pixels = [(image_size // 2**level) ** 2 for level in range(len(widths))]
    attends = [2**level in network.attention_rates for level in range(len(widths))]
    last = len(widths) - 1

    yield _convolution(3, widths[0], pixels[0])
    skips, current = [widths[0]], widths[0]
    for level, width in enumerate(widths):
        for _ in range(network.blocks_per_level):
            yield _residual(current, width, pixels[level])
            yield _attention(width, pixels[level]) if attends[level] else 0
            current = width
            skips.append(width)
        if level < last:  # Resampled before its first convolution: counted at the lower level.
            yield _residual(width, width, pixels[level + 1])
            skips.append(width)
    yield 2 * _residual(current, current, pixels[last]) + _attention(current, pixels[last])
    for level in range(last, -1, -1):
        width = widths[level]
        for _ in range(network.blocks_per_level + 1):
            yield _residual(current + skips.pop(), width, pixels[level])
            yield _attention(width, pixels[level]) if attends[level] else 0
            current = width
        if level > 0:
            yield _residual(width, width, pixels[level - 1])
    yield _convolution(current, outputs, pixels[0])


def _convolution(inputs: int, outputs: int, pixels: int, side: int = 3) -> float:
    return side**2 * inputs * outputs * pixels


def _residual(inputs: int, outputs: int, pixels: int) -> float:
    skip = 0 if inputs == outputs else _convolution(inputs, outputs, pixels, side=1)
    return _convolution(inputs, outputs, pixels) + _convolution(outputs, outputs, pixels) + skip


def _attention(channels: int, pixels: int) -> float:
    projections = 4 * channels**2 * pixels  # Queries, keys, values, output.
    return projections + 2 * pixels**2 * channels  # Scores, and their weighted sum of values.
