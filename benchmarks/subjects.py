"""The implementations to compare, as callables on the same inputs and the same weights."""

from collections.abc import Callable

import torch

import svd_core as svd
from svd_core.model.guidance_modes import gains, mode_on_cpu
from svd_core.networks.vae import LATENT_SCALE

from . import peers
from .options import Setting
from .weights import checkpoint

Case = Callable[[], torch.Tensor]
OURS, DIFFUSERS, COMPILED, COMFY = "ours", "diffusers", "diffusers compiled", "ComfyUI"


def model_of(setting: Setting, parts: tuple[str, ...] = ("unet",)) -> svd.SVDModel:
    """Return our model, loaded like a user loads it."""
    path = checkpoint(setting.scale, setting.work, parts)
    return svd.load_model(path, device=setting.device, dtype=setting.dtype)


def decoder_of(setting: Setting) -> svd.SVDModel:
    """Return our model with a narrow UNet, for questions about the autoencoder only."""
    path = checkpoint("small" if setting.scale == "small" else "decoder", setting.work, ("unet", "vae"))
    return svd.load_model(path, device=setting.device, dtype=setting.dtype)


def names(compiled: bool = False) -> list[str]:
    """Return the available implementations."""
    return [OURS, DIFFUSERS, *([COMPILED] if compiled else []), *([COMFY] if peers.comfy_folder() else [])]


def unet_case(name: str, model: svd.SVDModel, setting: Setting, passes: int = 1) -> Case:
    """Return the UNet work of one step: `passes` clips in one batch, or for ours in turn unless `ours_together`."""
    x, c_noise, token, motion, vector = unet_inputs(model, setting, passes)
    frames = setting.frames
    if name == OURS:

        def rows(value: torch.Tensor) -> torch.Tensor:
            return value[:, None].expand(-1, frames, *value.shape[1:])  # a broadcast row, as the sampler passes it

        def run() -> torch.Tensor:
            if passes > 1 and ours_together(setting):
                shared = vector[:1].expand(passes * frames, -1)  # both passes have the same motion numbers
                return model.unet(x.flatten(0, 1), c_noise.expand(len(shared)), tuple(rows(token)), shared, frames)
            parts = [
                model.unet(x[b], c_noise.expand(frames), rows(token)[b], rows(vector)[b], num_frames=frames)
                for b in range(passes)
            ]
            return torch.cat(parts)

        return run
    if name in (DIFFUSERS, COMPILED):
        peer = peers.diffusers_unet(model)
        if name == COMPILED:
            peer = torch.compile(peer)
        return lambda: peer(x, c_noise[0], token, motion).sample.flatten(0, 1)
    peer = peers.comfy_unet(model)
    rows_of = {"context": token.repeat_interleave(frames, 0), "y": vector.repeat_interleave(frames, 0)}
    return lambda: peer(x.flatten(0, 1), c_noise.expand(passes * frames), num_video_frames=frames, **rows_of)


def ours_together(setting: Setting) -> bool:
    """Return whether our sampler runs both CFG passes in one batch at this size, if the memory is free."""
    size = (setting.frames, *setting.latent_size)
    return mode_on_cpu(*size) == "together" if setting.device.type == "cpu" else gains(*size)


def unet_inputs(model: svd.SVDModel, setting: Setting, passes: int) -> tuple[torch.Tensor, ...]:
    """Return x [B, T, 8, h, w], c_noise [1], token [B, 1, D], motion numbers [B, 3] and their vector [B, V]."""
    generator = torch.Generator().manual_seed(1)
    place = {"device": setting.device, "dtype": setting.dtype}
    height, width = setting.latent_size
    x = torch.randn(passes, setting.frames, 8, height, width, generator=generator).to(**place)
    token = torch.randn(passes, 1, model.config.unet.context_channels, generator=generator).to(**place)
    motion = torch.tensor([[6.0, 127.0, 0.02]]).expand(passes, -1).to(setting.device)
    vector = model.embed_motion().expand(passes, -1).to(**place)
    return x, torch.tensor([0.7], device=setting.device), token, motion, vector


def decode_case(name: str, model: svd.SVDModel, setting: Setting) -> Case:
    """Return the decode of a whole clip, all frames together."""
    generator = torch.Generator().manual_seed(2)
    height, width = setting.latent_size
    latent = torch.randn(setting.frames, 4, height, width, generator=generator).to(setting.device)
    if name == OURS:
        return lambda: model.decode(latent)
    inner = (latent / LATENT_SCALE).to(setting.dtype)
    if name in (DIFFUSERS, COMPILED):
        vae = peers.diffusers_vae(model)
        if name == COMPILED:
            vae.decoder = torch.compile(vae.decoder)
        return lambda: vae.decode(inner, num_frames=setting.frames).sample
    decoder = peers.comfy_decoder(model)
    return lambda: decoder(inner)  # treats the whole batch as one clip
