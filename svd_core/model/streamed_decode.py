"""Exact decode of a whole clip, layer by layer and frame by frame.

Every temporal norm of the decoder pools over all frames, so decoding a clip in chunks changes every frame (spec section
6.4). This module passes one layer at a time over the list of frames instead: a pass collects the statistics of the next
temporal norm frame by frame, and temporal convolutions slide over three frames. The result is that of decoding all
frames at once. The memory is that of two lists of frames ("store"), of one ("recompute": the first temporal convolution
runs twice), or of a few frames ("host": the list is in main memory). All three strategies run the same operations on
the same values, so the choice never changes the clip.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks import kernels
from ..networks.autoencoder_blocks import FrameResidualBlock, VideoResidualBlock
from ..networks.layers import silu
from ..networks.vae import VAE
from ..stopping import stop_if_asked

STRATEGIES = ("store", "recompute", "host")

ELEMENTS_PER_STATISTIC = 2**24
"""Numbers converted to float32 at once for the statistics of a half-precision frame; bounds that temporary to 64 MiB.
"""


class NonFiniteError(ArithmeticError):
    """The named stage gave infinite or NaN values."""


class ClipStatistics:
    """Mean and variance over groups of channels, all frames and all pixels, collected frame by frame in float32."""

    def __init__(self, groups: int):
        self.groups = groups
        self._frames: list[tuple[Tensor, Tensor]] = []

    def add(self, frame: Tensor) -> None:
        """Add one frame [1, C, H, W]."""
        if frame.device.type == "cpu" and frame.dtype == torch.float32:
            # Group norm returns these statistics in less than half the time of `var_mean` on a CPU.
            sizes = (1, frame.shape[1], frame[0, 0].numel(), self.groups)
            _, mean, scale = torch.native_group_norm(frame, None, None, *sizes, 0.0)
            self._frames.append((scale[0] ** -2, mean[0]))
            return
        moments = kernels.frame_moments(frame, self.groups)
        if moments is not None:
            self._frames.append(moments)
            return
        grouped = frame.reshape(self.groups, -1)  # [G, C/G * H * W]
        rows = max(1, ELEMENTS_PER_STATISTIC // grouped.shape[1])
        parts = [torch.var_mean(part.float(), dim=1, correction=0) for part in grouped.split(rows)]
        self._frames.append((torch.cat([v for v, _ in parts]), torch.cat([m for _, m in parts])))

    def total(self, stage: str) -> tuple[Tensor, Tensor]:
        """Return variance and mean [G] of the clip; NonFiniteError naming `stage` where they are not finite."""
        variances, means = (torch.stack(column) for column in zip(*self._frames, strict=True))  # [T, G]
        variance = variances.mean(0) + means.var(0, correction=0)  # equal counts: the law of total variance
        if not variance.is_meta and not bool(torch.isfinite(variance).all()):
            raise NonFiniteError(stage)
        return variance, means.mean(0)


def _normalised(norm: nn.GroupNorm, frame: Tensor, variance: Tensor, mean: Tensor) -> Tensor:
    """Return the SiLU of the frame normalised with the clip's statistics, by an inference batch norm."""
    fused = kernels.normalise_silu(norm, frame, variance, mean)
    if fused is not None:
        return fused
    repeat = frame.shape[1] // norm.num_groups
    weight, bias = (p.to(device=frame.device, dtype=torch.float32) for p in (norm.weight, norm.bias))
    statistics = (mean.repeat_interleave(repeat), variance.repeat_interleave(repeat))
    return silu(F.batch_norm(frame, *statistics, weight, bias, False, 0.0, norm.eps))


def _slide(frames: Iterable[Tensor], convolution: nn.Module) -> Iterator[Tensor]:
    """Yield the temporal convolution of a stream of frames [1, C, H, W], padded with zeros at both ends."""
    window = None
    for frame in frames:
        if window is None:
            window = frame.new_zeros(frame.shape[:2] + (3,) + frame.shape[2:])  # [1, C, 3, H, W]
            window[:, :, 2] = frame
            continue
        _advance(window, frame)
        del frame
        yield convolution(window)[:, :, 0]
    _advance(window, 0.0)
    yield convolution(window)[:, :, 0]


def _slide_as_products(frames: Iterable[Tensor], convolution: nn.Module) -> Iterator[Tensor]:
    """Yield the same as `_slide` by matrix products, which need no copies of windows on a CPU."""
    before, now, after = (convolution.weight[:, :, k, 0, 0].contiguous() for k in range(3))  # [C', C] each
    bias = convolution.bias[:, None]
    previous = begun = None  # the output that still needs the next frame, and the one after it
    for frame in frames:
        stop_if_asked()
        pixels = frame[0].flatten(1)  # [C, HW]
        size = (1, -1, *frame.shape[2:])
        del frame
        done = None if previous is None else previous.addmm_(after, pixels).view(size)
        stop_if_asked()
        previous = torch.addmm(bias, now, pixels) if begun is None else begun.addmm_(now, pixels)
        stop_if_asked()
        begun = torch.addmm(bias, before, pixels)
        del pixels
        if done is not None:
            yield done
            del done
    yield previous.view(size)


def _advance(window: Tensor, frame: Tensor | float) -> None:
    window[:, :, 0] = window[:, :, 1]
    window[:, :, 1] = window[:, :, 2]
    window[:, :, 2] = frame


class _Clip:
    """The list of frames between two layers, kept on the computing device or, for "host", in main memory."""

    def __init__(self, frames: Iterable[Tensor], device: torch.device, home: torch.device):
        self.device, self.home = device, home
        self._frames = [frame.to(home) for frame in frames]

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def dtype(self) -> torch.dtype:
        return self._frames[0].dtype

    def take(self, index: int) -> Tensor:
        """Return a frame and remove it from the list."""
        frame, self._frames[index] = self._frames[index], None
        return frame.to(self.device)

    def look(self, index: int) -> Tensor:
        return self._frames[index].to(self.device)

    def put(self, index: int, frame: Tensor) -> None:
        self._frames[index] = frame.to(self.home)

    def add(self, index: int, update: Tensor, weight: Tensor) -> None:
        frame = self.look(index)
        self.put(index, frame.addcmul_(update, weight))


def _temporal_pass(
    block: VideoResidualBlock, clip: _Clip, first: ClipStatistics, strategy: str, stage: str, tick: Callable[[], None]
) -> None:
    """Compute S <- S + alpha f(S) over the whole clip; `first` holds the statistics of S."""
    norm1, conv1 = block.time_stack.in_layers["0"], block.time_stack.in_layers["2"]
    norm2, conv2 = block.time_stack.out_layers["0"], block.time_stack.out_layers["3"]
    total1 = first.total(stage)
    single = clip.device.type == "cpu" and clip.dtype == torch.float32
    slide = _slide_as_products if single and conv1.plain and conv2.plain else _slide

    def convolved() -> Iterator[Tensor]:
        return slide((_normalised(norm1, clip.look(t), *total1) for t in range(len(clip))), conv1)

    second, kept = ClipStatistics(norm2.num_groups), deque()
    for frame in convolved():
        second.add(frame)
        if strategy == "store":
            kept.append(frame)
        del frame
        tick()
    total2 = second.total(stage)

    source = (kept.popleft() for _ in range(len(kept))) if strategy == "store" else convolved()
    weight = None
    for t, update in enumerate(slide((_normalised(norm2, frame, *total2) for frame in source), conv2)):
        weight = block.temporal_weight(update) if weight is None else weight
        clip.add(t, update, weight)
        tick()


def steps_of(vae: VAE, num_frames: int) -> int:
    """Return how many times `decode_clip` calls `tick` for `num_frames` frames."""
    layers = list(vae.decoder.stages())
    videos = sum(isinstance(layer, VideoResidualBlock) for layer in layers)
    residuals = sum(isinstance(layer, FrameResidualBlock) for layer in layers)
    return num_frames * (residuals + 2 * videos + 1)


def decode_clip(vae: VAE, latent: Tensor, strategy: str = "store", tick: Callable[[], None] = lambda: None) -> Tensor:
    """Decode one clip exactly, every frame seeing all others: [T, 3, 8h, 8w] in the latent's dtype.

    latent: [T, 4, h, w], divided by the latent scale, in the computing dtype and on the computing device.
    strategy: one of STRATEGIES.
    tick: called after every frame of every pass; an exception raised in it ends the decode.

    Raises NonFiniteError naming the stage that overflowed.
    """
    decoder, device = vae.decoder, latent.device
    home = torch.device("cpu") if strategy == "host" and latent.device.type != "meta" else device
    start = vae.before_decoder(latent)
    clip = _Clip((decoder.conv_in(start[t : t + 1]) for t in range(len(start))), device, home)

    pending: list[nn.Module] = []
    for index, layer in enumerate(decoder.stages()):
        if not isinstance(layer, FrameResidualBlock):
            pending.append(layer)  # runs with the next pass, so that its larger frames are never all alive
            continue
        temporal = isinstance(layer, VideoResidualBlock)
        statistics = ClipStatistics(layer.time_stack.in_layers["0"].num_groups) if temporal else None
        for t in range(len(clip)):
            frame = clip.take(t)
            for module in pending:
                frame = module(frame)
            frame = layer.frame(frame)
            if temporal:
                statistics.add(frame)
            clip.put(t, frame)
            del frame
            tick()
        pending = []
        if temporal:
            _temporal_pass(layer, clip, statistics, strategy, f"decoder stage {index}", tick)

    images = []
    for t in range(len(clip)):
        frame = clip.take(t)
        for module in pending:
            frame = module(frame)
        stop_if_asked()
        images.append(decoder.to_image(frame))
        tick()
    image = torch.cat(images)
    if decoder.temporal:
        image = decoder.conv_out.mix_over(image, len(images))
    if not image.is_meta and not bool(torch.isfinite(image).all()):
        raise NonFiniteError("the decoder's last convolution")
    return image
