"""Our autoencoder and image encoder as the host's VAE and CLIP_VISION, for its nodes and those of other packs."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...svd_core.model.conditioning import CLIP_MEAN, CLIP_STD, clip_pixels
from ...svd_core.model.decoding import decode, frames_to_image
from ...svd_core.networks.activation_bytes import BYTES_PER_SCORE, SCORE_BYTES, decoder_activation_bytes
from ...svd_core.networks.config import CoderConfig
from ...svd_core.networks.image_encoder import ImageEncoder
from ...svd_core.networks.vae import VAE
from . import comfy as host


class MissingPartError(AttributeError, ValueError):
    """A part is used that the checkpoint lacks. Also an AttributeError, because hosts probe objects for attributes."""


class MissingPart:
    """Placeholder on the socket of a part that the checkpoint lacks; using it raises MissingPartError."""

    def __init__(self, part: str, name: str):
        self.__dict__.update(part=part, name=name)

    def __getattr__(self, attribute: str):
        raise MissingPartError(
            f"{self.name} has no {self.part}; choose a full SVD checkpoint under complete_from in Load SVD Model, "
            "or connect one from another loader"
        )


class HostVAE(VAE):
    """Our VAE with the methods that the host and other packs call on `vae.first_stage_model`."""

    def decode(self, latent: Tensor, num_frames: int | None = None, **options) -> Tensor:
        """Decode `latent`; without `num_frames` all rows are one clip."""
        return super().decode(latent, num_frames or latent.shape[0])


class ReelVAE(host.VAEBase):
    """The host's VAE on our networks. Decoding is exact whatever memory is free, so it never changes a clip."""

    def __init__(self, module: HostVAE, dtype: torch.dtype):
        # super().__init__ would build the host's own networks; these are the attributes that it would set.
        self.first_stage_model = module
        self.patcher = host.managed(module, "vae")
        self.device = self.patcher.load_device
        self.output_device = host.output_device()
        self.vae_dtype = dtype
        self.working_dtypes = [torch.bfloat16, torch.float32]
        self.downscale_ratio = self.upscale_ratio = 8
        self.latent_channels, self.latent_dim, self.output_channels = 4, 2, 3
        self.memory_used_encode = lambda shape, dtype: encoder_bytes(module.config.encoder, *shape[2:])
        self.memory_used_decode = lambda shape, dtype: decoder_activation_bytes(
            module.config.decoder, shape[0], shape[-2], shape[-1], dtype.itemsize
        )
        self.process_input = lambda image: image * 2.0 - 1.0
        self.process_output = lambda image: ((image + 1.0) / 2.0).clamp(0.0, 1.0)
        self.downscale_index_formula = self.upscale_index_formula = None
        self.extra_1d_channel = self.pad_channel_value = self.format_encoded = self.size = None
        self.disable_offload = self.not_video = self.handles_tiling = False
        self.crop_input = True

    def frames(
        self,
        latent: Tensor,
        plan: str | int = "exact",
        tile: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        *,
        strategy: str | None = None,
    ) -> Tensor:
        """Decode one clip of unscaled latents [T, 4, h, w] to an IMAGE [T, H, W, 3] in 0..1 on the output device.

        plan, tile and strategy: as in `decoding.decode`. `on_progress(done, total)` replaces the running node's bar.
        """
        pixels = self.pixels(latent, plan, tile, on_progress, strategy=strategy)
        return frames_to_image(pixels).to(host.output_device(), host.output_dtype())

    def pixels(
        self,
        latent: Tensor,
        plan: str | int = "exact",
        tile: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        *,
        strategy: str | None = None,
    ) -> Tensor:
        """Decode as `frames` does, to [T, 3, H, W], about -1..1, on the computing device."""
        module, dtype = self.first_stage_model, self.vae_dtype
        size = (latent.shape[0], *latent.shape[-2:])
        needs = decoder_activation_bytes(module.config.decoder, *size, dtype.itemsize, strategy=strategy or "store")
        device = host.use(self.patcher, needs)
        progress = None if on_progress else host.Progress(1)
        return decode(
            module,
            latent,
            plan,
            scaled=False,
            # Free memory decides where frames are stored between layers, not their values.
            memory_limit=host.free_bytes(device, self.patcher),
            strategy=strategy,
            tile=tile,
            dtype=dtype,
            device=device,
            weights_follow_input=host.PRESENT,
            on_progress=on_progress or (lambda done, total: progress.update(done, total=total)),
        )

    def latent(self, image: Tensor) -> Tensor:
        """Return the posterior mode [B, 4, h, w], unscaled, of images [B, 3, H, W] in -1..1, encoded one by one."""
        # Encoding one frame is cheap, so it always runs in single precision, as in the official code.
        device = host.use(self.patcher, encoder_bytes(self.first_stage_model.config.encoder, *image.shape[-2:]))
        rows = []
        with torch.no_grad():
            for row in image.split(1):
                host.check_interrupt()
                rows.append(self.first_stage_model.encode(row.to(device=device, dtype=torch.float32)))
        return torch.cat(rows).to(host.output_device())

    # The methods that the host's nodes call

    def decode(self, samples_in: Tensor, vae_options: dict | None = None) -> Tensor:
        """Return the IMAGE [T, H, W, 3] of latents [T, 4, h, w], decoded as one clip."""
        return self.frames(samples_in[:, :, 0] if samples_in.ndim == 5 else samples_in)

    def decode_tiled(
        self, samples: Tensor, tile_x=None, tile_y=None, overlap=None, tile_t=None, overlap_t=None
    ) -> Tensor:
        """Decode without tiles: streaming needs little memory, and tiles would change the picture."""
        return self.decode(samples)

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """Return the latents [B, 4, h, w] of an IMAGE [B, H, W, C] in 0..1, cropped to multiples of 8."""
        height, width = (side // 8 * 8 for side in pixel_samples.shape[1:3])
        top, left = ((side % 8) // 2 for side in pixel_samples.shape[1:3])
        pixels = pixel_samples[:, top : top + height, left : left + width, :3]
        return self.latent(pixels.movedim(-1, 1) * 2 - 1)

    def encode_tiled(self, pixel_samples: Tensor, **tiles) -> Tensor:
        """Encode without tiles."""
        return self.encode(pixel_samples)

    def get_sd(self) -> dict[str, Tensor]:
        """Return the weights under the names and in the form of the host's own SVD autoencoder."""
        weights = dict(self.first_stage_model.state_dict())
        if self.first_stage_model.config.temporal and "quant_conv.weight" in weights:
            # The host's video autoencoder has no quant_conv: it expects the 1x1 map inside the encoder's last layer.
            outer, shift = weights.pop("quant_conv.weight")[:, :, 0, 0], weights.pop("quant_conv.bias")
            weight, bias = weights["encoder.conv_out.weight"], weights["encoder.conv_out.bias"]
            weights["encoder.conv_out.weight"] = torch.einsum("oi,ichw->ochw", outer, weight)
            weights["encoder.conv_out.bias"] = outer @ bias + shift
        return weights

    def throw_exception_if_invalid(self) -> None:
        """Do nothing: the weights were checked when they were loaded."""

    def spacial_compression_decode(self) -> int:
        """Return the pixels per latent; the host spells the name so."""
        return self.upscale_ratio

    def spacial_compression_encode(self) -> int:
        """Return the pixels per latent; the host spells the name so."""
        return self.downscale_ratio

    def temporal_compression_decode(self) -> None:
        """Return None: there is one latent per frame."""


class ReelClipVision(host.ClipVisionBase):
    """The host's CLIP_VISION on our image encoder."""

    def __init__(self, module: ImageEncoder, dtype: torch.dtype):
        # super().__init__ would build the host's own network.
        self.model = module
        self.patcher = host.managed(module, "image_encoder")
        self.load_device = self.patcher.load_device
        self.dtype = dtype
        self.image_size = module.config.image_size
        self.image_mean, self.image_std = list(CLIP_MEAN), list(CLIP_STD)
        self.model_type, self.return_all_hidden_states, self.config, self.naf = "clip_vision_model", False, {}, None

    def token(self, image: Tensor) -> Tensor:
        """Return the image token [B, 1, D] of images [B, 3, H, W] in -1..1, with the official preprocessing."""
        device = host.use(self.patcher, 0)
        pixels = clip_pixels(image, self.image_size).to(device)
        with torch.no_grad():
            return self.model(pixels)[:, None].float().to(host.output_device())

    def encode_image(self, image: Tensor, crop: bool = False):
        """Return the host's CLIP_VISION_OUTPUT of an IMAGE [B, H, W, C] in 0..1.

        Without `crop` the picture is stretched, as in SVD's training. This is the default here, unlike in the host,
        because the host's SVD node does not set `crop`. With `crop` the picture is preprocessed as the host does it:
        centre square, rounded to 8 bits.
        """
        device = host.use(self.patcher, 0)
        picture = image[..., :3].movedim(-1, 1).cpu().float()
        pixels = centre_crop_pixels(picture, self.image_size) if crop else clip_pixels(picture * 2 - 1, self.image_size)
        pixels = pixels.to(device)
        with torch.no_grad():
            states = self.model.hidden_states(pixels)
            return host.clip_output(states[-1], states[-2], self.model.project(states[-1]), pixels.shape[1:])

    def get_sd(self) -> dict[str, Tensor]:
        """Return the weights under their OpenCLIP names."""
        return self.model.state_dict()


def encoder_bytes(config: CoderConfig, height: int, width: int) -> int:
    """Return the estimated peak bytes of encoding one picture in float32: five tensors of the widest layer.

    Where no fused kernel exists, the scores of the attention over the latent's cells can be the peak instead.
    """
    cells = height * width // 4 ** (len(config.channel_mult) - 1)
    return max(5 * 4 * config.channels * height * width, min(BYTES_PER_SCORE * cells**2, SCORE_BYTES))


def centre_crop_pixels(image: Tensor, size: int) -> Tensor:
    """Return [B, 3, H, W] in 0..1 with the host's CLIP preprocessing: centre square of `size`, 8 bits, normalised."""
    height, width = image.shape[-2:]
    if (height, width) != (size, size):
        scale = size / min(height, width)
        scaled = (round(height * scale), round(width * scale))
        image = F.interpolate(image, scaled, mode="bicubic", antialias=True)
        top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
        image = image[:, :, top : top + size, left : left + size]
    image = (image * 255).clamp(0, 255).round() / 255
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (image - mean) / std
