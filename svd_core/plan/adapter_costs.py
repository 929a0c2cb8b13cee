"""What the networks of the wider SVD family add to the sampling of a clip: weights, operations, memory.

Needs no torch. Operations and weights follow from the sizes; the activations were counted on the meta device at 25
frames of 1024x576, and grow with the frames and the area as those of the UNet do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..networks.config import UNetConfig
from ..networks.parameter_counts import (
    CONTROLNEXT_PARAMETERS,
    MIMICMOTION_PARAMETERS,
    backward_motion_parameters,
    cameractrl_parameters,
    controlnet_parameters,
    motionctrl_parameters,
    unet_blocks,
)
from .costs import Stage, block_flops, level_pixels


@dataclass(frozen=True)
class AdapterCost:
    """What one adapter adds to a clip.

    parameters: weights. flops: operations of one pass beside the UNet's. share: of the passes that have it; the pose
    networks leave out the unconditional one. once: operations once for each clip. tensors: activations of a pass above
    the UNet's, and `kept`: what stays for the whole clip, both in elements. streams: whether its weights are streamed
    where those of the UNet are. views: evaluations of the UNet in place of one.
    """

    name: str
    parameters: int
    flops: float
    tensors: float
    once: float = 0.0
    kept: float = 0.0
    share: float = 1.0
    streams: bool = False
    views: int = 1


def adapter_cost(name: str, config: UNetConfig, frames: int, height: int, width: int) -> AdapterCost:
    """Return the cost of an adapter (a key of ADAPTERS) for latents [frames, 4, height, width]."""
    if name not in ADAPTERS:
        raise ValueError(f"adapter {name!r} is unknown; use one of {', '.join(ADAPTERS)}")
    return ADAPTERS[name](config, frames, height, width)


def with_adapters(
    stage: Stage, adapters: Sequence[str], config: UNetConfig, size: tuple[int, int, int], itemsize: int, guided: bool
) -> Stage:
    """Return the sampling stage with the costs of adapters; other stages are unchanged. size: frames, height, width."""
    if stage.network != "unet":
        return stage
    for cost in (adapter_cost(name, config, *size) for name in adapters):
        passes = stage.passes * cost.views
        flops = stage.flops * cost.views + passes * cost.flops * (cost.share if guided else 1.0) + cost.once
        own = itemsize * cost.parameters
        stage = replace(
            stage,
            flops=flops,
            passes=passes,
            weights=stage.weights + (own if cost.streams else 0),
            beside=stage.beside + (0 if cost.streams else own),
            activations=stage.activations + int(itemsize * (cost.tensors + cost.kept)),
        )
    return stage


def _controlnet(config: UNetConfig, frames: int, height: int, width: int) -> AdapterCost:
    pixels = level_pixels(height, width, len(config.channel_mult))
    base, mults, levels = config.model_channels, config.channel_mult, len(config.channel_mult)
    blocks = list(unet_blocks(config))[: levels * config.num_res_blocks + 2]
    flops = sum(block_flops(block, pixels, frames) for block in blocks)
    flops += 2.0 * frames * pixels[0] * 9 * base * config.in_channels
    residuals = float(frames * pixels[0] * base)
    for level, mult in enumerate(mults):
        skips = config.num_res_blocks * pixels[level]
        if level < levels - 1:
            flops += 18.0 * frames * pixels[level + 1] * (mult * base) ** 2
            skips += pixels[level + 1]
        residuals += frames * skips * mult * base
        flops += 2.0 * frames * skips * (mult * base) ** 2
    residuals += frames * pixels[-1] * mults[-1] * base
    hint = frames * pixels[0] * base
    return AdapterCost(
        "SVD ControlNet", controlnet_parameters(config), flops, residuals + hint, once=5.0e5 * frames * pixels[0],
        kept=hint, streams=True,
    )  # fmt: skip


def _projections(config: UNetConfig, frames: int, height: int, width: int) -> float:
    """Return the operations of one square layer on the tokens of every transformer."""
    pixels = level_pixels(height, width, len(config.channel_mult))
    blocks = [(level, channels) for level, _, channels, attention in unet_blocks(config) if attention]
    return sum(2.0 * frames * pixels[level] * channels**2 for level, channels in blocks)


def _top(config: UNetConfig, frames: int, height: int, width: int) -> float:
    """Return the elements of one tensor of the top level."""
    return float(frames * height * width * config.model_channels)


def _motionctrl(config: UNetConfig, *size: int) -> AdapterCost:
    # The camera block and its temporal block run without the folds of the fast path.
    flops, top = _projections(config, *size), _top(config, *size)
    return AdapterCost("MotionCtrl", motionctrl_parameters(config), flops, 2.25 * top)


def _cameractrl(config: UNetConfig, *size: int) -> AdapterCost:
    flops, top = _projections(config, *size), _top(config, *size)
    pixels = level_pixels(*size[1:], len(config.channel_mult))
    kept = sum(size[0] * area * config.model_channels * mult
               for area, mult in zip(pixels, config.channel_mult, strict=True))  # fmt: skip
    parameters = cameractrl_parameters(config, size[0])
    return AdapterCost("CameraCtrl", parameters, flops, 3.0 * top, once=3.0 * flops, kept=kept)


def _mimicmotion(config: UNetConfig, *size: int) -> AdapterCost:
    top = _top(config, *size)
    return AdapterCost("MimicMotion", MIMICMOTION_PARAMETERS, 0.0, 1.05 * top, once=2000.0 * top, kept=top, share=0.5)


def _controlnext(config: UNetConfig, *size: int) -> AdapterCost:
    frames, height, width = size
    # Measured per latent pixel: the network reads the drawings at eight times the latent's sides in every pass.
    drawings = 3.0 * frames * 64 * height * width
    return AdapterCost(
        "ControlNeXt", CONTROLNEXT_PARAMETERS, 4.6e7 * frames * height * width, 1.05 * _top(config, *size),
        kept=drawings, share=0.5,
    )  # fmt: skip


def _backward_motion(config: UNetConfig, *size: int) -> AdapterCost:
    frames, height, width = size
    pixels = level_pixels(height, width, len(config.channel_mult))
    heads = [(level, channels // config.head_channels) for level, _, channels, on in unet_blocks(config) if on]
    maps = float(sum(pixels[level] * count * frames**2 for level, count in heads))
    parameters = backward_motion_parameters(config)
    flops = _projections(config, *size)
    return AdapterCost("backward motion", parameters, flops, maps + 3.5 * _top(config, *size), views=2)


ADAPTERS: dict[str, Callable[..., AdapterCost]] = {
    "controlnet": _controlnet,
    "motionctrl": _motionctrl,
    "cameractrl": _cameractrl,
    "mimicmotion": _mimicmotion,
    "controlnext": _controlnext,
    "backward_motion": _backward_motion,
}
"""Adapters by the names of `checkpoints.family.KINDS`."""
