"""The node that decodes latents into frames."""

import logging
from collections.abc import Callable

from torch import Tensor

from ..svd_core.pipelines.batch import decode_clips
from ..svd_core.plan.memory_plan import MemoryPlan
from ..svd_core.sampling.controls import Control
from .host import comfy as host
from .host.build import own_decoder
from .host.preview import FPS, Taken, played, shown
from .host.vae_and_clip import ReelVAE
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
                    inputs.MAX_FRAMES,
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
        taken, progress = Taken(), host.Progress().decoded
        frames = decode_latent(vae, latent, frames_per_chunk, tile, plan, on_decode=progress)
        note = latent.get(CLIP_KEY)
        size = f"{frames.shape[2]}x{frames.shape[1]}"
        entries = taken(size, f"{len(frames)} frames"), played(frames, (note and note.fps) or FPS)
        return shown((frames,), *entries)


def decode_latent(
    vae,
    latent: dict,
    frames_per_chunk: int = 0,
    tile: int = 0,
    plan: MemoryPlan | None = None,
    *,
    on_decode: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the IMAGE [N, H, W, 3] of all clips in a LATENT, each decoded independently, streamed as a plan says."""
    clips = check_samples(latent).split(clip_length(latent))
    vae, strategy = own_decoder(vae), plan.strategy if plan else None
    note = latent.get(CLIP_KEY) or ClipNote(len(clips[0]))

    def decode(part: Tensor, on_decode: Callable[[int, int], None] | None) -> Tensor:
        host.check_interrupt()
        if not isinstance(vae, ReelVAE):
            return vae.decode(part)
        report = on_decode or (lambda done, total: host.check_interrupt())
        return vae.frames(part, frames_per_chunk or "exact", tile or None, report, strategy=strategy)

    return decode_clips(
        decode,
        clips,
        closed=note.closed,
        finish=finish_controls(note, len(clips)),
        placement=note.placement,
        on_decode=on_decode,
    )


def finish_controls(note: ClipNote, clips: int) -> list[tuple[Control, ...]]:
    """Return the controls that edit the frames of each clip; empty if the note is for another number of clips."""
    if note.finish and len(note.finish) not in (1, clips):
        log.warning("expected %d clips, got %d; end pictures and colour locks not applied", len(note.finish), clips)
    if len(note.finish) not in (1, clips):
        return [()] * clips
    return [note.finish[clip % len(note.finish)] for clip in range(clips)]


NODES = [SVDReelDecode]
