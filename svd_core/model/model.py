"""A loaded model: encode image, encode latent, embed motion, denoise, decode."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..condition import Condition, DeepFeatures
from ..memory import available_bytes
from ..networks.config import SVDConfig
from ..networks.joined_weights import join_groups
from ..sampling.denoiser import denoise_with
from ..sampling.guidance import batches_conditions
from . import conditioning
from .decoding import decode
from .devices import parse_dtype, pick_device
from .guidance_passes import shares_a_pass, smaller_passes
from .retry import FallbackStep, attempts


class MissingPartError(ValueError):
    """The checkpoint lacks a part of the model that is needed."""


class ReadyUNet(NamedTuple):
    """A UNet on the device where it computes, and the dtype in which it computes."""

    network: nn.Module
    device: torch.device
    dtype: torch.dtype


class VideoModel:
    """The methods that samplers and pipelines call, whoever places the networks.

    A subclass has `config`, `device`, the encoders and `decode`; its `prepare_unet` brings the UNet to the device.
    """

    config: SVDConfig

    @property
    def variant(self) -> str:
        """svd, svd_xt, svd_xt_1_1, sv3d_u, sv3d_p, animatelcm, nano or custom."""
        return self.config.variant

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        raise NotImplementedError

    @property
    def network(self) -> nn.Module:
        """The UNet itself, wherever its weights are."""
        raise NotImplementedError

    def prepare_unet(
        self,
        frames: int,
        height: int,
        width: int,
        features: DeepFeatures | None = None,
        networks: Sequence[nn.Module] = (),
    ) -> ReadyUNet:
        """Return the UNet, ready to denoise latents [frames, 4, height, width] with `features` cached between steps.

        networks: of adapters, such as ControlNets, which are made ready on the same device. Called before every pass:
        what is ready already must cost nothing here.
        """
        raise NotImplementedError

    def fallback_steps(self, conditions: int) -> Iterator[FallbackStep]:
        """Yield what `denoise` can change after a shortage of memory; `conditions` is the number of clips in a pass."""
        yield from smaller_passes(self.network, self.device, conditions)

    def remedy_for_nan(self) -> str:
        """Return what to do after the UNet gave NaN or infinite latents: by its weights, then by their precision."""
        broken = first_not_finite(self.network)
        if broken:
            return f"the UNet's weight '{broken}' has them, so the model or its LoRA is damaged; download it again"
        dtype = next(self.network.parameters()).dtype
        if dtype == torch.float32:
            return "lower the guidance or the strength of the controls and LoRAs"
        return f"load the model in float32 instead of {str(dtype).removeprefix('torch.')}, or lower the guidance"

    def embed_motion(
        self, *, fps_id: float = 6, motion_bucket_id: float = 127, augmentation_level: float = 0.02
    ) -> Tensor:
        """Return the motion vector [1, V] of three numbers; `fps_id` is one less than frames per second."""
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
        """Return D(x; sigma), the denoised estimate [T, 4, h, w] of noisy scaled latents `x` (spec section 8.1).

        The result is float32 (float64 if `x` is) on the device of `x`. Several conditions give [B, T, 4, h, w], in one
        pass where that is faster and memory allows. `features`, of one condition, are filled, or used in place of the
        inner blocks (`sampling.reuse`). After a shortage of memory the pass is cut smaller, with a warning in the log.
        """
        several = isinstance(condition, (tuple, list))
        if several and features is not None:
            raise ValueError(f"features belong to one condition (got {len(condition)}); denoise them one by one")
        networks = adapter_networks(condition if several else [condition])
        for attempt in attempts(self.fallback_steps(len(condition) if several else 1)):
            with attempt:
                unet, device, dtype = self.prepare_unet(len(x), *x.shape[-2:], features, networks)
                state = x.to(device).contiguous()
                if not several or shares_a_pass(unet, state, dtype):
                    return denoise_with(unet, state, sigma, condition, dtype=dtype, features=features).to(x.device)
                estimates = []
                for one in condition:
                    estimates.append(denoise_with(unet, state, sigma, one, dtype=dtype))
                return torch.stack(estimates).to(x.device)


@dataclass(frozen=True)
class SVDModel(VideoModel):
    """Networks of one checkpoint, ready to run. Parts that the checkpoint lacks are None.

    `config` holds every size, the native frames, width and height, and the variant.
    """

    unet: nn.Module | None
    vae: nn.Module | None
    image_encoder: nn.Module | None
    config: SVDConfig

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return _first_parameter(self).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, in which the networks compute."""
        return _first_parameter(self).dtype

    @property
    def network(self) -> nn.Module:
        """The UNet itself, wherever its weights are."""
        return self.unet

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None) -> "SVDModel":
        """Move the networks to a device and cast them to a dtype, both also by name; return this model, as torch does.

        None leaves that as it is. Raises ValueError for a device that is unavailable and for an unknown dtype.
        """
        place = None if device is None else pick_device(device)
        kind = parse_dtype(dtype)
        for network in (self.unet, self.vae, self.image_encoder):
            if network is not None:
                network.to(device=place, dtype=kind)
        if self.unet is not None and self.device.type != "cpu":
            join_groups(self.unet)
        return self

    def part(self, name: str) -> nn.Module:
        """Return the network `unet`, `vae` or `image_encoder`; MissingPartError where the checkpoint has none."""
        module = getattr(self, name)
        if module is None:
            raise MissingPartError(
                f"the checkpoint has no {name.replace('_', ' ')}; complete it from a full SVD checkpoint "
                "(complete_from)"
            )
        return module

    def prepare_unet(
        self,
        frames: int,
        height: int,
        width: int,
        features: DeepFeatures | None = None,
        networks: Sequence[nn.Module] = (),
    ) -> ReadyUNet:
        """Return the UNet where it is, with the networks of adapters moved beside it; see VideoModel."""
        unet = self.part("unet")
        weight = unet.out["2"].weight
        self.bring(networks, weight.device)
        return ReadyUNet(unet, weight.device, weight.dtype)

    def bring(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        """Move the networks of adapters to the device of the UNet."""
        for network in networks:
            if next(network.parameters()).device != device:
                network.to(device)

    @torch.no_grad()
    def encode_image(self, image: Tensor) -> Tensor:
        """Return the image token [B, 1, D] of a clean image [B, 3, H, W] in -1..1 (official preprocessing; spec 5)."""
        encoder = self.part("image_encoder")
        place = encoder.class_embedding
        pixels = conditioning.clip_pixels(image, encoder.config.image_size)
        return encoder(pixels.to(place))[:, None].float()

    @torch.no_grad()
    def encode_latent(self, image: Tensor) -> Tensor:
        """Return the conditioning latent [B, 4, H/8, W/8] of an image [B, 3, H, W] in -1..1.

        It is the mode of the posterior, unscaled (spec section 6). Encoding one picture is cheap, so it always runs in
        float32, as in the official code: the encoder can overflow in half precision.
        """
        vae = self.part("vae")
        if vae.config.encoder is None:
            raise MissingPartError("the checkpoint has half a VAE only; complete it from a full SVD checkpoint")
        place = vae.encoder.conv_in.weight.device
        return vae.encoder_in_float32().encode(image.to(place, torch.float32))

    def decode(self, latent: Tensor, plan: str | int = "exact", **options) -> Tensor:
        """Return the frames [T, 3, 8h, 8w], about -1..1, of scaled latents [T, 4, h, w].

        `plan` is "exact" (every frame sees the whole clip), or the number of frames decoded independently of the
        others, as the official script does. Further options: `decoding.decode`; `memory_limit` is the free memory of
        the device by default.
        """
        options.setdefault("memory_limit", available_bytes(self.device))
        return decode(self.part("vae"), latent, plan, **options)


def adapter_networks(conditions: Sequence[Condition]) -> tuple[nn.Module, ...]:
    """Return the networks of all adapters of the conditions, each once."""
    found = [getattr(adapter, "network", None) for one in conditions for adapter in getattr(one, "adapters", ())]
    return tuple(dict.fromkeys(network for network in found if network is not None))


def first_not_finite(network: nn.Module) -> str:
    """Return the name of the first weight with a value that is NaN or infinite, "" for none."""
    for name, weight in network.named_parameters():
        if not weight.is_meta and not bool(torch.isfinite(weight.float()).all()):
            return name
    return ""


def _first_parameter(model: SVDModel) -> nn.Parameter:
    parts = (model.unet, model.vae, model.image_encoder)
    return next(next(part for part in parts if part is not None).parameters())
