"""Estimate the peak activation bytes of the networks from shapes alone. Needs no torch."""

from .config import CoderConfig, UNetConfig

CHUNK_ELEMENTS = 40 * 10**6
"""Input elements per feed-forward chunk.

The hidden layer is eight times as wide as the input and would be the largest tensor of the network, so larger inputs
are split into chunks. At 25 frames of 1024x576, the top level runs in two chunks.
"""

SCORE_BYTES = 2**31
"""Most bytes of attention scores at a time, where no fused kernel exists; larger attention is cut into slices.

Such a kernel keeps a score for every pair of tokens: one frame of 1024x576 has 425 million at the top level. Apple's
aborts the process above 4 GiB.
"""

BYTES_PER_SCORE = 16
"""Scores and softmax in float32, and what masks and copies take beside them."""


def unet_activation_bytes(
    config: UNetConfig,
    frames: int,
    height: int,
    width: int,
    itemsize: int = 2,
    *,
    videos: int = 1,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> int:
    """Return the estimated peak activation bytes of one UNet pass over `videos` clips of `frames` frames each.

    height and width are those of the latent. itemsize: bytes per element, 2 in half precision. chunk_elements: see
    `attention.FeedForward`.
    The peak lies in a top-level transformer near the output. It is counted in tensors of all clips at the base width.
    The skips not yet consumed and the block's two token paths are always resident. On top come either queries, keys and
    values of the temporal attention, or the feed-forward layer's normalised input and nine times one chunk of it.
    """
    elements = videos * frames * height * width * config.model_channels
    resident = config.num_res_blocks + 3
    attention = 4 if videos == 1 else 5  # several clips are stacked into one more tensor
    feed_forward = 1 + 9 * min(1.0, chunk_elements / elements)
    return int(elements * itemsize * (resident + max(attention, feed_forward)) * 1.02)


def decoder_activation_bytes(
    config: CoderConfig, frames: int, height: int, width: int, itemsize: int = 2, *, strategy: str = "store"
) -> int:
    """Return the estimated peak activation bytes of the exact streamed decode of `frames` latents of height x width.

    strategy: "store", "recompute" or "host" (`model.streamed_decode.STRATEGIES`). The estimate is counted in frames of
    the base width at full size: the frame lists of the strategy, the windows of its temporal convolutions and the
    intermediate results of the last block. For small clips of large pictures the attention over the pixels of one frame
    is the peak instead, up to SCORE_BYTES.
    """
    scale = 2 ** (len(config.channel_mult) - 1)
    frame = config.channels * height * scale * width * scale * itemsize
    lists = {"store": 2 * frames + 4, "recompute": frames + 9, "host": 9}[strategy]
    resident = 0 if strategy == "host" else frames
    one_frame = (resident + 7) * frame + min(2**26, frame * 4 // itemsize)
    attention = min(4 * (height * width) ** 2 * itemsize, SCORE_BYTES) + resident * frame
    return int(max(lists * frame, one_frame, attention) * 1.02)
