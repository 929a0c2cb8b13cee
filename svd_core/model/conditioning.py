"""The conditioning of a clip: image token, conditioning latent and motion vector (spec sections 5.1 and 7).

Holds the official preprocessing and the noise augmentation. A model is anything with the methods of `Encoders`.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..condition import Condition
from ..networks.layers import sinusoidal_embedding
from ..sampling.noise import seeded_noise

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# Width of the sinusoid of each scalar of the motion vector (spec section 7).
SCALAR_CHANNELS = 256


class Encoders(Protocol):
    """The methods of a loaded model that conditioning uses; see `model.VideoModel`."""

    def encode_image(self, image: Tensor) -> Tensor: ...

    def encode_latent(self, image: Tensor) -> Tensor: ...

    def embed_motion(self, *, fps_id: float, motion_bucket_id: float, augmentation_level: float) -> Tensor: ...

    def decode(self, latent: Tensor) -> Tensor: ...


def motion_vector(
    fps_id: float | Tensor,
    motion_bucket_id: float | Tensor,
    augmentation_level: float | Tensor,
    channels: int = SCALAR_CHANNELS,
) -> Tensor:
    """Return the embedded scalars in the order fps, motion, augmentation: [1, 3 * channels] float32 (spec section 7).

    `fps_id` is the number the network gets, frames per second minus 1. `motion_bucket_id` was 0 to 255 in training,
    `augmentation_level` is the standard deviation of the noise on the image in -1..1. Each may be a curve over the
    frames, a tensor [T]; the result is then [T, 3 * channels].
    """
    scalars = {"fps_id": fps_id, "motion_bucket_id": motion_bucket_id, "augmentation_level": augmentation_level}
    rows = [torch.as_tensor(value, dtype=torch.float32).reshape(-1) for value in scalars.values()]
    frames = max(len(row) for row in rows)
    for name, row in zip(scalars, rows, strict=True):
        if len(row) not in (1, frames):
            raise ValueError(f"{name} needs 1 value or {frames} (got {len(row)}); give one value, or one per frame")
        if not torch.isfinite(row).all():
            raise ValueError(
                f"{name} must be finite (got NaN or infinity); use 6, 127 and 0.02 for fps_id, bucket and noise"
            )
    return torch.cat([sinusoidal_embedding(row.expand(frames), channels) for row in rows], dim=-1)  # [T, 3 * channels]


def clip_pixels(image: Tensor, size: int = 224) -> Tensor:
    """Return `image` [B, 3, H, W] in -1..1 as the normalised input [B, 3, size, size] of the image encoder, float32.

    This is the official preprocessing (spec section 5.1): stretch without crop, Gaussian blur against aliasing, bicubic
    with a = -0.75 and aligned corners, overshoot kept. Values are resized in -1..1. The result is on the CPU, so that a
    picture gives the same pixels for every device.
    """
    image = image.float().cpu()
    if image.shape[-2:] != (size, size):
        image = F.interpolate(_prefilter(image, size), (size, size), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return ((image + 1) / 2 - mean) / std


def augmentation_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return the standard normal noise [B, 3, H, W] of the noise augmentation, before scaling: float32 on the CPU.

    It is the first draw from the seed, as in the official code. The start noise of the same seed has the same numbers,
    at unrelated places of the picture.
    """
    return seeded_noise(shape, seed)


def augment(image: Tensor, level: float, seed: int) -> Tensor:
    """Return `image` [1, 3, H, W] in -1..1 plus `level` times seeded noise, not clamped (spec section 7).

    It is for the VAE only; the image encoder gets the clean image.
    """
    if not (math.isfinite(level) and level >= 0):
        raise ValueError(f"augmentation must be finite and 0 or above (got {level:g}); use 0 to 0.1, such as 0.02")
    if level == 0:
        return image
    return image + level * augmentation_noise(tuple(image.shape), seed).to(image)


def condition_on_image(
    model: Encoders,
    image: Tensor,
    *,
    fps_id: float | Tensor = 6,
    motion_bucket_id: float | Tensor = 127,
    augmentation_level: float = 0.02,
    seed: int = 23,
) -> Condition:
    """Return the condition of one clip from `image` [1, 3, H, W] in -1..1, at the size of the clip (spec section 7).

    The image encoder sees the clean picture, the VAE the noised one. `fps_id` is frames per second minus 1.
    """
    if image.dim() != 4 or image.shape[:2] != (1, 3):
        raise ValueError(f"a condition needs one image [1, 3, H, W] (got shape {list(image.shape)}); pass image[:1]")
    return Condition(
        token=model.encode_image(image),
        latent=model.encode_latent(augment(image, augmentation_level, seed)),
        vector=model.embed_motion(
            fps_id=fps_id, motion_bucket_id=motion_bucket_id, augmentation_level=augmentation_level
        ),
    )


def _prefilter(image: Tensor, size: int) -> Tensor:
    """Blur `image` [B, 3, H, W] before it is shrunk to `size`, as the official resize does (spec section 5.1)."""
    factors = [side / size for side in image.shape[-2:]]
    if max(factors) <= 1:
        return image
    kernels = [_gaussian(factor) for factor in factors]
    pad_y, pad_x = (len(kernel) // 2 for kernel in kernels)
    image = F.pad(image, (pad_x, pad_x, pad_y, pad_y), mode="reflect")
    channels = image.shape[1]
    for kernel, shape in zip(kernels, ((-1, 1), (1, -1)), strict=True):
        image = F.conv2d(image, kernel.reshape(1, 1, *shape).expand(channels, 1, -1, -1), groups=channels)
    return image


def _gaussian(factor: float) -> Tensor:
    """Return the normalised kernel of odd length for an axis that shrinks `factor` times."""
    sigma = max((factor - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3)) | 1  # made odd by adding 1
    u = torch.arange(taps, dtype=torch.float32) - taps // 2
    weights = torch.exp(-(u**2) / (2 * sigma**2))
    return weights / weights.sum()


def frame_token(model: Encoders) -> Callable[[Tensor], Tensor]:
    """Return the `token_of` of `extend_clip`: it decodes one frame alone and encodes it as a picture."""
    return lambda latent: model.encode_image(model.decode(latent).clamp(-1, 1))
