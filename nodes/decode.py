"""The node that decodes latents into frames."""

import logging

import torch

from ..svd_core.controls.loop import decode_closed
from ..svd_core.plan.memory_plan import MemoryPlan
from ..svd_core.sampling.controls import Control, finish_frames
from .host import comfy as host
from .host.build import borrowed_vae
from .host.vae_and_clip import MissingPart, ReelVAE
from .shared import inputs
from .shared.clips import CLIP_KEY, ClipNote, check_samples, clip_length

log = logging.getLogger("svd_reel")


class SVDReelDecode:
    """Decode a clip."""

    DISPLAY_NAME = "Decode SVD Clip"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Decodes the latents of a clip into frames, exactly and in little memory, and cuts off the border of a "
        "padded image. Any VAE works; a VAE for still images decodes each frame separately."
    )
    SEARCH_ALIASES = ["VAEDecode", "svd decoder", "decoding_t", "decode_chunk_size", "latent to video"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("frames",)
    OUTPUT_TOOLTIPS = (
        "The frames of the clip, for Create Video, Save Animated WEBP, upscalers and frame interpolators.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "vae": inputs.socket("VAE", "The VAE from Load SVD Model or from any other loader."),
                "latent": inputs.socket("LATENT", "The clip from a sampler."),
                "frames_per_chunk": inputs.whole(
                    0,
                    0,
                    1024,
                    "Number of frames decoded at a time. 0 decodes exactly, with the whole clip visible to every "
                    "frame, in little memory and independent of the graphics card. 14 decodes like the official "
                    "script, with seams between chunks.",
                    advanced=True,
                ),
            },
            "optional": {
                "tile": inputs.whole(
                    0,
                    0,
                    8192,
                    "Side of overlapping tiles in pixels. 0 is off and exact. Use 512 for images too large for the "
                    "memory; it changes the result slightly.",
                    step=8,
                    advanced=True,
                ),
                "plan": inputs.PLAN,
            },
        }

    def execute(self, vae, latent: dict, frames_per_chunk: int, tile: int = 0, plan: MemoryPlan | None = None) -> tuple:
        return (decode_clips(vae, latent, frames_per_chunk, tile, plan),)


def decode_clips(
    vae, latent: dict, frames_per_chunk: int = 0, tile: int = 0, plan: MemoryPlan | None = None
) -> torch.Tensor:
    """IMAGE [N, H, W, 3] of all clips in a LATENT, each decoded by itself, streamed as a plan says."""
    clips = check_samples(latent).split(clip_length(latent))
    if not isinstance(vae, (ReelVAE, MissingPart)):
        vae = borrowed_vae(vae) or vae

    def decode(clip: torch.Tensor) -> torch.Tensor:
        if isinstance(vae, ReelVAE):
            return vae.frames(clip, frames_per_chunk or "exact", tile or None, plan.strategy if plan else None)
        return vae.decode(clip)

    note = latent.get(CLIP_KEY)
    finish = finishing(note, len(clips))
    images = []
    for clip, controls in zip(clips, finish, strict=True):
        host.check_interrupt()
        image = decode_closed(decode, clip) if note is not None and note.closed else decode(clip)
        images.append(finish_frames(image, controls))
    frames = torch.cat(images)
    return note.placement.undo(frames) if note is not None and note.placement is not None else frames


def finishing(note: ClipNote | None, clips: int) -> list[tuple[Control, ...]]:
    """What controls still do to the frames of each of so many clips; nothing where the note is for another number."""
    if note is None or not note.finish:
        return [()] * clips
    if len(note.finish) not in (1, clips):
        log.warning("the latent has %d clips, its kept stills are for %d; they are left out", clips, len(note.finish))
        return [()] * clips
    return [note.finish[clip % len(note.finish)] for clip in range(clips)]


NODES = [SVDReelDecode]
