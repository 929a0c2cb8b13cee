"""From latents to frames: plans, memory limits, retry in higher precision. The arithmetic is in `streamed`."""

import copy
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from ..networks.activation_bytes import decoder_activation_bytes
from ..networks.vae import LATENT_SCALE, VAE
from .retry import FallbackStep, retrying
from .streamed_decode import STRATEGIES, NonFiniteError, decode_clip, steps_of
from .tiled_decode import decode_tiles

log = logging.getLogger("svd_reel")

Progress = Callable[[int, int], None]
"""Called with (done, total) many times during a decode; what it raises ends the decode."""


def parse_plan(plan: str | int) -> int | None:
    """Frames per independent chunk, None for "exact". Accepts a number or its text; raises ValueError otherwise."""
    if isinstance(plan, str) and plan.strip().lower() == "exact":
        return None
    try:
        frames = int(plan)
    except (TypeError, ValueError):
        frames = 0
    if frames < 1 or isinstance(plan, (bool, float)):
        raise ValueError(f'decode plan {plan!r} is unknown; use "exact" or a number of frames per chunk, 1 or more')
    return frames


def strategy_for(vae: VAE, latent: Tensor, itemsize: int, memory_limit: int | None) -> str:
    """The fastest strategy of `streamed.STRATEGIES` whose estimate fits `memory_limit` bytes (None: no limit)."""
    if memory_limit is None:
        return STRATEGIES[0]
    frames, _, height, width = latent.shape
    for strategy in STRATEGIES[:-1]:
        if (
            decoder_activation_bytes(vae.config.decoder, frames, height, width, itemsize, strategy=strategy)
            <= memory_limit
        ):
            return strategy
    return STRATEGIES[-1]


@torch.no_grad()
def decode(
    vae: VAE,
    latent: Tensor,
    plan: str | int = "exact",
    *,
    memory_limit: int | None = None,
    strategy: str | None = None,
    tile: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    weights_follow_input: bool = False,
    scaled: bool = True,
    on_progress: Progress | None = None,
) -> Tensor:
    """Decode latents to frames.

    latent: [T, 4, h, w], scaled as the sampler gives it, or VAE latents if `scaled` is off. plan: "exact", every frame
    sees the whole clip; or a number, that many frames per chunk decoded independently as the official script does,
    which changes the picture slightly (spec section 6.4).
    memory_limit: bytes for activations; it picks where intermediate frames are kept and never changes the result.
    strategy: one of `streamed.STRATEGIES` to begin with, whatever the limit. Where memory runs out all the same, the
    next smaller one follows, with a warning in the log.
    tile: pixels, a multiple of 8; decode overlapping spatial tiles, approximate, only for pictures too large for
    anything else.
    dtype, device: where and in what to compute; the weights' own by default. weights_follow_input: the layers cast
    their weights to the input themselves, as a host's may.
    Returns [T, 3, 8h, 8w] float32, about -1..1 (not clamped), on the computing device. Values that overflow in half
    precision are decoded again in float32, with a warning in the log.
    """
    chunk = parse_plan(plan)
    _check(vae, latent, tile)
    latent = latent.float() / LATENT_SCALE if scaled else latent.float()
    weight = vae.decoder.conv_in.weight
    device = torch.device(device) if device is not None else weight.device
    dtype = dtype or weight.dtype
    try:
        return _decode_in(vae, latent, chunk, tile, dtype, device, memory_limit, strategy, on_progress)
    except NonFiniteError as failure:
        if not bool(torch.isfinite(latent).all()):
            raise ValueError(
                "the latent holds NaN or infinite values; the sampler's result is broken, not the decoder"
            ) from failure
        if dtype == torch.float32:
            raise ValueError(
                f"decoding gave NaN or infinite values in float32 ({failure}); the VAE weights are damaged"
            ) from failure
        log.warning(
            "decoding in %s overflowed (%s); decoding again in float32", str(dtype).removeprefix("torch."), failure
        )
    upcast = vae if weights_follow_input else copy.deepcopy(vae).float()
    return _decode_in(upcast, latent, chunk, tile, torch.float32, device, memory_limit, strategy, on_progress)


def _check(vae: VAE, latent: Tensor, tile: int | None) -> None:
    if vae.config.decoder is None:
        raise ValueError("the model file has no decoder; load the VAE of a full SVD checkpoint")
    channels = vae.config.decoder.latent_channels
    if latent.ndim != 4 or latent.shape[0] < 1 or latent.shape[1] != channels:
        raise ValueError(
            f"latent of shape {list(latent.shape)} cannot be decoded; it must be [frames, {channels}, height, width]"
        )
    if tile is not None and (tile < 128 or tile % 8):
        raise ValueError(f"tile {tile} is not a multiple of 8 from 128 up; use 512")


def _decode_in(
    vae: VAE,
    latent: Tensor,
    chunk: int | None,
    tile: int | None,
    dtype: torch.dtype,
    device: torch.device,
    memory_limit: int | None,
    strategy: str | None,
    on_progress: Progress | None,
) -> Tensor:
    frames = latent.shape[0]
    pieces = latent.split(min(chunk or frames, frames))
    count = _Counter(on_progress)

    def decode_piece(piece: Tensor) -> Tensor:
        first = strategy or strategy_for(vae, piece, dtype.itemsize, memory_limit)
        return _decode_retrying(vae, piece.to(device=device, dtype=dtype), first, count).float()

    if tile is None:
        count.total = sum(steps_of(vae, len(piece)) for piece in pieces)
        return torch.cat([decode_piece(piece) for piece in pieces])
    cells = tile // 8
    return torch.cat([decode_tiles(decode_piece, piece, cells, cells // 4) for piece in pieces])


def _decode_retrying(vae: VAE, piece: Tensor, first: str, count: "_Counter") -> Tensor:
    """The piece by strategy `first`, or by those after it where memory runs out."""
    begun, current = count.done, first

    def use(strategy: str) -> None:
        nonlocal current
        current, count.done = strategy, begun

    def rung(strategy: str) -> FallbackStep:
        return f'decode strategy "{strategy}"', lambda: use(strategy)

    smaller = STRATEGIES[STRATEGIES.index(first) + 1 :]
    return retrying(lambda: decode_clip(vae, piece, current, count.tick), map(rung, smaller))


class _Counter:
    """Turns ticks into (done, total) calls; without a total (tiles) the total runs ahead by one."""

    def __init__(self, on_progress: Progress | None):
        self.on_progress, self.done, self.total = on_progress, 0, 0

    def tick(self) -> None:
        self.done += 1
        if self.on_progress is not None:
            self.on_progress(self.done, self.total or self.done + 1)


def frames_to_image(frames: Tensor) -> Tensor:
    """Frames [T, 3, H, W] in -1..1 to images [T, H, W, 3] in 0..1, clamped."""
    return ((frames.float() + 1.0) / 2.0).clamp(0.0, 1.0).movedim(1, -1).contiguous()
