"""From latents to frames: plans, memory limits, retries in higher precision. The exact decode is `streamed_decode`."""

import copy
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..networks.activation_bytes import decoder_activation_bytes
from ..networks.vae import LATENT_SCALE, VAE
from .retry import FallbackStep, attempts
from .streamed_decode import STRATEGIES, NonFiniteError, decode_clip, steps_of
from .tiled_decode import decode_tiles

log = logging.getLogger("svd_reel")

Progress = Callable[[int, int], None]
"""Called with (done, total) many times during a decode; an exception raised in it ends the decode."""


def parse_plan(plan: str | int) -> int | None:
    """Return the frames per independent chunk, None for "exact". `plan` is a number or its text, else ValueError."""
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
    """Return the fastest of STRATEGIES whose estimate fits `memory_limit` bytes (None: no limit)."""
    if memory_limit is None:
        return STRATEGIES[0]
    frames, _, height, width = latent.shape
    for strategy in STRATEGIES[:-1]:
        size = (vae.config.decoder, frames, height, width, itemsize)
        if decoder_activation_bytes(*size, strategy=strategy) <= memory_limit:
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
    """Decode latents [T, 4, h, w] to frames [T, 3, 8h, 8w] float32, about -1..1 (not clamped), on `device`.

    latent: scaled as the sampler returns it, or as the VAE encodes it if `scaled` is off.
    plan: "exact" (every frame sees the whole clip), or the number of frames per chunk, decoded independently as the
    official script does; chunks change the picture slightly (spec section 6.4).
    memory_limit: bytes for activations. It decides where intermediate frames are stored and never changes the result.
    strategy: the one of STRATEGIES to start with, whatever the limit. After a shortage of memory the next smaller one
    follows, with a warning in the log.
    tile: pixels, a multiple of 8 from 128. Decodes overlapping spatial tiles, an approximation for pictures too large
    for anything else.
    dtype, device: where and in which format to compute; None takes those of the weights.
    weights_follow_input: the layers cast their weights to the input themselves, as those of a host may.

    Values that overflow in half precision are decoded again in float32, with a warning in the log.
    """
    chunk = parse_plan(plan)
    _check(vae, latent, tile)
    latent = (latent.float() / LATENT_SCALE if scaled else latent.float()).contiguous()
    weight = vae.decoder.conv_in.weight
    device = torch.device(device) if device is not None else weight.device
    dtype = dtype or weight.dtype
    try:
        return _decode_in(vae, latent, chunk, tile, dtype, device, memory_limit, strategy, on_progress)
    except NonFiniteError as failure:
        if not bool(torch.isfinite(latent).all()):
            raise ValueError(
                "the latents hold NaN or infinite values; sample the clip again, in float32 or with lower guidance"
            ) from failure
        if dtype == torch.float32:
            raise ValueError(
                f"decoding gave NaN or infinite values in float32 ({failure}); the VAE weights are damaged, download "
                "the checkpoint again"
            ) from failure
        log.warning(
            "decoding in %s overflowed (%s); decoding again in float32", str(dtype).removeprefix("torch."), failure
        )
    upcast = vae if weights_follow_input else copy.deepcopy(vae).float()
    return _decode_in(upcast, latent, chunk, tile, torch.float32, device, memory_limit, strategy, on_progress)


def _check(vae: VAE, latent: Tensor, tile: int | None) -> None:
    if vae.config.decoder is None:
        raise ValueError("the checkpoint has no decoder; load the VAE of a full SVD checkpoint")
    channels = vae.config.decoder.latent_channels
    if latent.ndim != 4 or latent.shape[0] < 1 or latent.shape[1] != channels:
        raise ValueError(f"latents must be [frames, {channels}, height, width] (got {list(latent.shape)})")
    if tile is not None and (tile < 128 or tile % 8):
        raise ValueError(f"tile must be a multiple of 8, 128 or more (got {tile}); use 512")


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
    chunks = latent.split(min(chunk or frames, frames))
    counter = _Counter(on_progress)

    def decode_chunk(part: Tensor) -> Tensor:
        first = strategy or strategy_for(vae, part, dtype.itemsize, memory_limit)
        return _decode_retrying(vae, part.to(device=device, dtype=dtype).contiguous(), first, counter).float()

    if tile is None:
        counter.total = sum(steps_of(vae, len(part)) for part in chunks)
        return torch.cat([decode_chunk(part) for part in chunks])
    cells = tile // 8
    return torch.cat([decode_tiles(decode_chunk, part, cells, cells // 4) for part in chunks])


def _decode_retrying(vae: VAE, latent: Tensor, first: str, counter: "_Counter") -> Tensor:
    """Decode with strategy `first`, or after a shortage of memory with those that follow it."""
    begun, current = counter.done, first

    def use(strategy: str) -> None:
        nonlocal current
        current, counter.done = strategy, begun

    def smaller() -> Iterator[FallbackStep]:
        for strategy in STRATEGIES[STRATEGIES.index(first) + 1 :]:
            yield FallbackStep(f'decode strategy "{strategy}"', lambda strategy=strategy: use(strategy))

    for attempt in attempts(smaller()):
        with attempt:
            return decode_clip(vae, latent, current, counter.tick)


class _Counter:
    """Turns ticks into (done, total) calls; without a total (tiles) the total runs ahead by one."""

    def __init__(self, on_progress: Progress | None) -> None:
        self.on_progress, self.done, self.total = on_progress, 0, 0

    def tick(self) -> None:
        self.done += 1
        if self.on_progress is not None:
            self.on_progress(self.done, self.total or self.done + 1)


def frames_to_image(frames: Tensor) -> Tensor:
    """Return frames [T, 3, H, W] in -1..1 as contiguous images [T, H, W, 3] in 0..1, clamped."""
    return ((frames.float() + 1.0) / 2.0).clamp(0.0, 1.0).movedim(1, -1).contiguous()
