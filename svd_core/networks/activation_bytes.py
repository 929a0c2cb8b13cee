"""Estimate the peak activation bytes of the networks from shapes alone."""

from .attention import NUMBERS_PER_CALL
from .config import CoderConfig, UNetConfig


def unet_activation_bytes(
    config: UNetConfig,
    frames: int,
    height: int,
    width: int,
    itemsize: int = 2,
    *,
    videos: int = 1,
    numbers_per_call: int = NUMBERS_PER_CALL,
) -> int:
    """Estimated peak activation bytes of one UNet pass over a batch of `videos` clips of `frames` frames each.

    height and width: of the latent; itemsize: bytes of one activation (2 in half precision); numbers_per_call: as in
    `models.attention.FeedForward`.
    The peak is in a top-level transformer near the output. Counted in tensors of all clips at the base width: the skips
    not yet consumed and the block's two token paths stay; on top come either queries, keys and values of the temporal
    attention, or the feed-forward layer's normalised input and nine times the part of it that one call takes.
    """
    numbers = videos * frames * height * width * config.model_channels
    resident = config.num_res_blocks + 3
    attention = 4 if videos == 1 else 5  # several clips are put together in one more tensor
    feed_forward = 1 + 9 * min(1.0, numbers_per_call / numbers)
    return int(numbers * itemsize * (resident + max(attention, feed_forward)) * 1.02)


def decoder_activation_bytes(
    config: CoderConfig, frames: int, height: int, width: int, itemsize: int = 2, *, strategy: str = "store"
) -> int:
    """Estimated peak activation bytes of the exact streamed decode of T latents of height x width.

    strategy: "store", "recompute" or "host", as in `streamed.STRATEGIES`. Counted in frames of the base width at full
    size: the lists that the strategy keeps, the windows of its temporal convolutions and the last block's own
    intermediate results. Small clips of large pictures are bound by the attention over one frame's pixels instead.
    """
    scale = 2 ** (len(config.channel_mult) - 1)
    frame = config.channels * height * scale * width * scale * itemsize
    lists = {"store": 2 * frames + 4, "recompute": frames + 9, "host": 9}[strategy]
    resident = 0 if strategy == "host" else frames
    one_frame = (resident + 7) * frame + min(2**26, frame * 4 // itemsize)
    attention = 4 * (height * width) ** 2 * itemsize + resident * frame
    return int(max(lists * frame, one_frame, attention) * 1.02)
