"""A loaded model and its five verbs: encode image, encode latent, embed motion, denoise, decode."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..condition import Condition, DeepFeatures
from ..networks.config import SVDConfig
from ..sampling.guidance import batches_conditions
from . import conditioning
from .decoding import decode
from .guidance_passes import denoise_in_passes


class MissingPartError(ValueError):
    """A part of the model is needed that its file does not hold."""


@dataclass(frozen=True)
class SVDModel:
    """Networks of one checkpoint, ready to run. Parts that the checkpoint lacks are None.

    `config` holds every size, the native frames, width and height, and the variant.
    """

    unet: nn.Module | None
    vae: nn.Module | None
    image_encoder: nn.Module | None
    config: SVDConfig

    @property
    def variant(self) -> str:
        """svd, svd_xt, svd_xt_1_1, sv3d_u, sv3d_p, animatelcm, nano or custom."""
        return self.config.variant

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return _first_parameter(self).device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored in and the networks compute in."""
        return _first_parameter(self).dtype

    def part(self, name: str) -> nn.Module:
        """The network `unet`, `vae` or `image_encoder`; MissingPartError where the checkpoint has none."""
        module = getattr(self, name)
        if module is None:
            raise MissingPartError(
                f"the model file has no {name.replace('_', ' ')}; "
                "complete it from a full SVD checkpoint (complete_from)"
            )
        return module

    @torch.no_grad()
    def encode_image(self, image: Tensor) -> Tensor:
        """Image token [B, 1, D] of a clean image [B, 3, H, W] in -1..1, with the official preprocessing (spec section
        5).
        """
        encoder = self.part("image_encoder")
        place = encoder.class_embedding
        pixels = conditioning.clip_pixels(image.to(place.device), encoder.config.image_size)
        return encoder(pixels.to(place.dtype))[:, None].float()

    @torch.no_grad()
    def encode_latent(self, image: Tensor) -> Tensor:
        """Conditioning latent [B, 4, H/8, W/8] of an image [B, 3, H, W] in -1..1: posterior mode, unscaled (spec
        section 6).
        """
        vae = self.part("vae")
        if vae.config.encoder is None:
            raise MissingPartError("the model file has only half a VAE; complete it from a full SVD checkpoint")
        weight = vae.encoder.conv_in.weight
        return vae.encode(image.to(weight)).float()

    def embed_motion(
        self, *, fps_id: float = 6, motion_bucket_id: float = 127, augmentation_level: float = 0.02
    ) -> Tensor:
        """Vector [1, V] of the three motion numbers. `fps_id` is the number the net sees, one less than frames per
        second.
        """
        return conditioning.motion_vector(fps_id, motion_bucket_id, augmentation_level).to(self.device)

    @batches_conditions
    @torch.no_grad()
    def denoise(
        self,
        x: Tensor,
        sigma: float | Tensor,
        condition: Condition | Sequence[Condition],
        *,
        features: DeepFeatures | None = None,
    ) -> Tensor:
        """D(x; sigma): the denoised estimate [T, 4, h, w], float32, of noisy scaled latents x [T, 4, h, w] (spec
        section 8.1). Several conditions give [B, T, 4, h, w], in one pass where that is faster and memory allows. Where
        memory runs out it goes on in smaller passes, with a warning in the log. `features`, of one condition, are left
        there, or taken up instead of computing them (`sampling.reuse`).
        """
        unet = self.part("unet")
        weight = unet.out["2"].weight
        moved = x.to(weight.device)
        return denoise_in_passes(unet, moved, sigma, condition, dtype=weight.dtype, features=features).to(x.device)

    def decode(self, latent: Tensor, plan: str | int = "exact", **options) -> Tensor:
        """Frames [T, 3, 8h, 8w], about -1..1, of scaled latents [T, 4, h, w].

        plan: "exact" (all frames see each other), or the number of frames decoded independently of the others, as the
        official script does. Further options: `decoding.decode`.
        """
        return decode(self.part("vae"), latent, plan, **options)


def _first_parameter(model: SVDModel) -> nn.Parameter:
    parts = (model.unet, model.vae, model.image_encoder)
    return next(next(part for part in parts if part is not None).parameters())
