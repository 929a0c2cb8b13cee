"""Estimate the device memory of a training run, by a step at full size on the meta device, which allocates nothing."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..memory import PeakMemory
from ..networks.config import UNetConfig
from ..networks.unet import UNet
from .data.samples import TrainingBatch
from .loss import velocity_losses
from .network import BLOCKS, COMPUTED_IN
from .settings import TrainSettings
from .trainer import trained_parts

HALF_PRECISION_CALLS = (F.linear, F.conv2d, F.scaled_dot_product_attention, torch.conv2d)
FLOAT32_CALLS = (F.group_norm, F.layer_norm)
STATE_BYTES = {"adamw": 8, "adamw8bit": 2, "muon": 4}  # bytes of optimiser state per trained parameter


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training run on its device; `trainable` is a number of parameters.

    activations: everything that a step allocates besides gradients, at its peak. peak: the largest sum of all.
    """

    trainable: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    peak: int


def training_memory(
    config: UNetConfig, settings: TrainSettings, frames: int, width: int, height: int
) -> TrainingMemory:
    """Return the memory needed to train a UNet on clips of `frames` frames of width x height pixels.

    One forward and backward pass of the batch runs on the meta device. Frozen weights of a LoRA are counted in the
    settings' precision, trained weights in float32. Workspaces of kernels and unused blocks of the allocator are not
    counted; add a tenth for them. Raises ValueError for sizes that are not multiples of 64.
    """
    if width % 64 or height % 64 or min(frames, width, height) < 1:
        raise ValueError(
            f"width and height must be multiples of 64, frames 1 or more (got {frames} frames of {width}x{height}); "
            "use 576x320, for example"
        )
    computed = COMPUTED_IN[settings.precision]
    stored = computed if settings.method == "lora" else torch.float32
    unet = UNet(config, device="meta", dtype=stored)
    autocast = _Autocast(computed if stored != computed else None)
    for layer in unet.modules():
        if isinstance(layer, BLOCKS):  # a backward pass turns function modes off, but a recomputed block needs this one
            layer.forward = partial(autocast.around, layer.forward)
    with trained_parts(unet, settings) as (parameters, _):
        numbers = sum(part.numel() for part in parameters.values())
        weights = sum(part.numel() * part.element_size() for part in unet.parameters())
        step, gradients = _step_bytes(unet, config, settings, (frames, height // 8, width // 8), stored, autocast)
    optimizer = _optimizer_bytes(parameters, settings)
    average = 4 * numbers if settings.ema else 0
    peak = weights + optimizer + average + max(step, gradients)
    return TrainingMemory(numbers, weights, gradients, optimizer, average, max(0, step - gradients), peak)


def _step_bytes(
    unet: nn.Module,
    config: UNetConfig,
    settings: TrainSettings,
    size: tuple[int, int, int],
    stored: torch.dtype,
    autocast: "_Autocast",
) -> tuple[int, int]:
    """Return the peak bytes of one step, with its gradients, and the bytes of the gradients alone."""
    frames, height, width = size
    meta = partial(torch.empty, device="meta")
    clips = settings.batch
    batch = TrainingBatch(
        meta(clips, frames, 4, height, width),
        meta(clips, 4, height, width),
        meta(clips, config.context_channels),
        meta(clips, config.vector_channels),
    )
    noise, sigma = torch.empty_like(batch.latent), torch.ones(clips, dtype=torch.float64)
    with PeakMemory() as memory, autocast:
        velocity_losses(unet, batch, sigma, noise, stored).mean().backward()
        autocast.forget()
    gradients = [part.grad for part in unet.parameters() if part.grad is not None]
    return memory.peak, sum(gradient.numel() * gradient.element_size() for gradient in gradients)


def _optimizer_bytes(parameters: dict[str, nn.Parameter], settings: TrainSettings) -> int:
    usual = STATE_BYTES["adamw" if settings.optimizer == "muon" else settings.optimizer]
    matrices = STATE_BYTES[settings.optimizer]
    return sum(part.numel() * (matrices if part.ndim > 1 else usual) for part in parameters.values())


class _Attention(torch.autograd.Function):
    """Attention that keeps what a fused kernel keeps (inputs, result, a number per query), not all scores."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(query.shape[:-1] + value.shape[-1:])
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class _Autocast(TorchFunctionMode):
    """The autocast and the fused attention of a GPU, for the meta device, which has neither.

    Matrix products and convolutions run in the type `computed`, norms in float32; None casts nothing. A trained weight
    is cast once.
    """

    def __init__(self, computed: torch.dtype | None) -> None:
        super().__init__()
        self._computed = computed
        self._cast: dict[int, Tensor] = {}

    def around(self, function, *inputs):
        """Return the result of a function called in this mode."""
        with self:
            return function(*inputs)

    def forget(self) -> None:
        """Release the cast weights."""
        self._cast.clear()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._computed is not None and function in (*HALF_PRECISION_CALLS, *FLOAT32_CALLS):
            wanted = self._computed if function in HALF_PRECISION_CALLS else torch.float32
            args = tuple(self._to(value, wanted) for value in args)
            kwargs = {name: self._to(value, wanted) for name, value in kwargs.items()}
        if function is F.scaled_dot_product_attention:
            return _Attention.apply(*args[:3])
        return function(*args, **kwargs)

    def _to(self, value, dtype: torch.dtype):
        if not isinstance(value, Tensor) or value.dtype == dtype or not value.is_floating_point():
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(dtype)
        if id(value) not in self._cast:
            self._cast[id(value)] = value.to(dtype)
        return self._cast[id(value)]
