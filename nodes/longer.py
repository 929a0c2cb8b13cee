"""Nodes for clips longer than the model's own: overlapping windows, and extension from the end."""

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ..svd_core.controls.colour_lock import LookLock
from ..svd_core.controls.extend import Extension
from ..svd_core.controls.windows import BORDERS, ENDS, NOISES, WEIGHTS, Windows
from ..svd_core.networks.activation_bytes import unet_activation_bytes
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.pipelines.batch import Sampling
from ..svd_core.pipelines.extend import extend_clips
from ..svd_core.sampling.controls import Control
from ..svd_core.sampling.solvers import SOLVERS
from .decode import decode_latent
from .guidance import GuidanceCurve
from .host import comfy as host
from .host.preview import FPS, ClipPreview
from .host.unet import FRAMES_KEY
from .sample import sampling_for
from .shared import inputs
from .shared.clips import CLIP_KEY, ClipNote, check_samples, clip_inputs, clip_length
from .shared.controls import ControlChain
from .shared.model import LoadedModel

log = logging.getLogger("svd_reel")

CATEGORY = f"{inputs.CATEGORY}/Control"
MOVING, RESTING = BORDERS
OPEN, CLOSED = ENDS
REPEATED, FRESH = NOISES


class SVDReelWindows:
    """Denoise a long clip in overlapping windows."""

    DISPLAY_NAME = "Denoise in Windows (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Lets Sample SVD Clip make 50 and more frames in one run. The model processes overlapping windows of its own "
        "length, and their results are blended in every step. It needs the memory of one window; the log shows the "
        "number of passes per step. Best for water, clouds, hair and slow cameras; for a story use Extend SVD Clip."
    )
    SEARCH_ALIASES = [
        "context window",
        "context options",
        "FreeNoise",
        "long video",
        "longer clip",
        "MultiDiffusion",
        "sliding window",
    ]
    RETURN_TYPES = ("SVD_CONTROL",)
    RETURN_NAMES = ("control",)
    OUTPUT_TOOLTIPS = ("The control, for Sample SVD Clip or the next control node.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "latent": inputs.socket(
                    "LATENT", "The latent from Prepare Image for SVD, with the full number of frames."
                ),
                "window_frames": inputs.whole(
                    0,
                    0,
                    inputs.MAX_FRAMES,
                    "Frames that the model processes at once. 0 uses the length it was trained on (14 for SVD, 25 "
                    "for SVD-XT), which is best. Memory grows with it.",
                ),
                "overlap": inputs.whole(
                    0,
                    0,
                    inputs.MAX_FRAMES - 1,
                    "Frames that neighbouring windows share. 0 uses a third of the window. More overlap joins better "
                    "and takes longer: about frames / (window - overlap) passes per step.",
                ),
                "rolling": inputs.decimal(
                    0.0,
                    0.0,
                    1000.0,
                    "Noise level (at 1024x576) below which a window continues from the frame it starts with. 0 keeps "
                    "every window at the start image, which is steadiest. 5 to 20 gets further from the image, but "
                    "loses detail and colour on the way.",
                    step=1.0,
                ),
                "noise": inputs.choice(
                    (REPEATED, FRESH),
                    "Noise of the frames after the first window. repeated and shuffled (FreeNoise) makes windows "
                    "agree better on the content. fresh everywhere gives more varied motion.",
                    advanced=True,
                ),
            },
            "optional": {
                "control": inputs.socket("SVD_CONTROL", "Another control, which is applied before this one."),
                "ends": inputs.choice(
                    (OPEN, CLOSED),
                    "Whether the clip closes. closed loop continues from the last frame to the first; use it with "
                    "constant or triangle guidance.",
                    advanced=True,
                ),
                "weights": inputs.choice(
                    WEIGHTS,
                    "How windows are blended. pyramid weights their middles most, which is smoothest. linear fades "
                    "over the overlap only, which is sharper.",
                    advanced=True,
                ),
                "borders": inputs.choice(
                    (MOVING, RESTING),
                    "Whether window borders move with every step. Moving borders leave no seam in one place and take "
                    "up to one more pass per step.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        latent: dict,
        window_frames: int,
        overlap: int,
        rolling: float,
        noise: str,
        control: ControlChain | None = None,
        ends: str = OPEN,
        weights: str = "pyramid",
        borders: str = MOVING,
    ) -> tuple:
        frames, samples = clip_length(latent), check_samples(latent)
        size = window_frames or min(model.config.frames, frames)
        windows = Windows(
            size,
            # A window of one frame has no third to share.
            overlap or min(max(1, size // 3), size - 1),
            weights=weights,
            shift=borders == MOVING,
            closed=ends == CLOSED,
            rolling=rolling if size > 1 else 0.0,
            freenoise=noise == REPEATED,
        )
        log.info("%s", plan_text(model, windows, frames, tuple(samples.shape[-2:])))
        return ((control or ControlChain()).then([windows]),)


def plan_text(model: LoadedModel, windows: Windows, frames: int, size: tuple[int, int]) -> str:
    """Return passes and activation memory of the windows as text. Raises ValueError for a clip that is too short."""
    passes = windows.passes(frames)
    return (
        f"{frames} frames in windows of {windows.size} that share {windows.overlap}: up to {passes} passes for each of "
        f"a single window, {_gigabytes(model, windows.size, size)} of activations instead of "
        f"{_gigabytes(model, frames, size)}"
    )


class SVDReelExtend:
    """Extend a clip from its end."""

    DISPLAY_NAME = "Extend SVD Clip"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes a clip longer: samples frames that continue from its last ones and joins them without a repeated "
        "frame. It works on latents, so nothing is lost between chunks, and keeps colour and contrast of the first "
        "clip. It needs the memory of one clip. With the published weights, details fade after 3 or 4 chunks."
    )
    SEARCH_ALIASES = ["extend video", "longer clip", "continue", "StreamingSVD", "last frame", "video extension"]
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The whole longer clip, for Decode SVD Clip or another Extend SVD Clip.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "latent": inputs.socket("LATENT", "The clip so far, from Sample SVD Clip."),
                "positive": inputs.socket(
                    "CONDITIONING", "The conditioning with which the clip was made: its image and motion."
                ),
                "negative": inputs.socket("CONDITIONING", "The unconditional input of guidance, from the same node."),
                "new_frames": inputs.whole(
                    0,
                    0,
                    10000,
                    "Frames to add. 0 adds one chunk: the model's frames minus the overlap. Time grows with the "
                    "number of chunks, new frames / (model's frames - overlap); each takes as long as sampling one "
                    "clip.",
                ),
                "overlap": inputs.whole(
                    Extension.overlap,
                    1,
                    inputs.MAX_FRAMES - 1,
                    "Frames at the end of the clip that each chunk repeats as its start: 4 to 8 of 25, 3 to 5 of 14. "
                    "More frames continue the motion better and leave fewer new frames per chunk.",
                ),
                "anchor": inputs.decimal(
                    Extension.anchor,
                    0.0,
                    1.0,
                    "Share of the first image in the image conditioning of each chunk; the rest comes from the frame "
                    "it starts from. Raise it to keep the subject, lower it to follow where the clip has gone.",
                    step=0.05,
                ),
                "colour_lock": inputs.decimal(
                    Extension.colour_lock,
                    0.0,
                    1.0,
                    "How far colour and contrast of new frames are returned to the first clip. 0 is off. 1 stops all "
                    "drift, but also hides real changes of light.",
                    step=0.05,
                ),
                "seed": inputs.SEED,
                "solver": inputs.choice(
                    SOLVERS, "The method of each step, as in Sample SVD Clip. euler is SVD's own.", advanced=True
                ),
            },
            "optional": {
                "guidance": inputs.socket(
                    "SVD_GUIDANCE",
                    "The guidance curve from Shape Guidance over Frames, applied to each chunk. Without it, the "
                    "model's own.",
                ),
                "sigmas": inputs.socket(
                    "SIGMAS", "Noise levels from Make Noise Schedule. Without them, the model's own."
                ),
                "chunk_frames": inputs.whole(
                    0,
                    0,
                    inputs.MAX_FRAMES,
                    "Frames sampled at a time. 0 uses the length the model was trained on, which is best.",
                    advanced=True,
                ),
                "repeats": inputs.whole(
                    1,
                    1,
                    10,
                    "Evaluations of each step at medium noise. 2 or 3 continue motion better; those steps take as "
                    "many times longer.",
                    advanced=True,
                ),
                "clip_vision": inputs.socket(
                    "CLIP_VISION", "An image encoder instead of the model's own.", advanced=True
                ),
                "vae": inputs.socket("VAE", "A VAE instead of the model's own.", advanced=True),
                "detail": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "How far fine structure of new frames is restored to that of the first clip. 0 is off. Try 0.5 "
                    "if chunks get softer; it also sharpens artefacts.",
                    step=0.05,
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        latent: dict,
        positive: list,
        negative: list,
        new_frames: int,
        overlap: int,
        anchor: float,
        colour_lock: float,
        seed: int,
        solver: str,
        guidance: GuidanceCurve | None = None,
        sigmas: Tensor | None = None,
        chunk_frames: int = 0,
        repeats: int = 1,
        clip_vision=None,
        vae=None,
        detail: float = 0.0,
    ) -> tuple:
        shares = {"anchor": anchor, "colour_lock": colour_lock, "detail": detail}
        extension = Extension(chunk_frames or model.config.frames, overlap, repeats=repeats, **shares)
        model = model.with_parts(vae=vae, image_encoder=clip_vision)
        sampling = sampling_for(model, extension.frames, seed, solver, guidance, sigmas)
        return (extend_latent(model, latent, positive, negative, new_frames, extension, sampling),)


def extend_latent(
    model: LoadedModel,
    latent: dict,
    positive: list,
    negative: list,
    new_frames: int,
    extension: Extension,
    sampling: Sampling,
) -> dict:
    """Return the LATENT with every clip longer by `new_frames` (0: one chunk)."""
    frames, samples = clip_length(latent), check_samples(latent)
    if not bool(samples.any()):
        raise ValueError("the latent is empty, but extending needs a clip; connect the latent from Sample SVD Clip")
    new_frames = new_frames or extension.frames - extension.overlap
    chunks, steps = extension.chunks(new_frames), len(sampling.sigmas) - 1
    log.info(
        "adding %d frames in %d chunk(s) of %d frames with %d steps each, %s of activations",
        new_frames, chunks, extension.frames, steps, _gigabytes(model, extension.frames, samples.shape[-2:]),
    )  # fmt: skip
    conditioned = _conditioned_frames(positive, frames)
    channels = model.config.unet.context_channels
    clips = clip_inputs(
        samples.split(frames), positive, negative, ControlChain(), channels=channels, conditioned=conditioned
    )
    extended = extend_clips(
        model,
        clips,
        sampling,
        new_frames,
        extension,
        token_of=lambda row: _token(model, row),
        on_step=host.Progress(preview=ClipPreview(model.colours, float(positive[0][1].get("fps", FPS)))).step,
    )
    kept = frames - extension.overlap  # frames that are passed on unchanged, without scaling back and forth
    before = samples.unflatten(0, (-1, frames))  # [B, T, 4, h, w]
    after = torch.stack(extended)[:, kept:] / LATENT_SCALE
    longer = torch.cat([before[:, :kept], after.to(before)], dim=1).flatten(0, 1)
    note = latent.get(CLIP_KEY) or ClipNote(frames)
    finish = finish_longer(note.finish, extension)
    note = replace(note, frames=frames + new_frames, closed=False, finish=finish)
    rest = {key: value for key, value in latent.items() if key not in ("noise_mask", "batch_index")}
    return {**rest, "samples": longer.to(host.output_device()), CLIP_KEY: note}


def finish_longer(finish: tuple[tuple[Control, ...], ...], extension: Extension) -> tuple[tuple[Control, ...], ...]:
    """Return the controls of the decoded frames of extended clips: with a colour lock, and without those of loops."""
    rows = (tuple(c for c in row if not (c.closed or isinstance(c, LookLock))) for row in finish or ((),))
    look = extension.look()
    rows = tuple((look, *row) if look.active else row for row in rows)
    return rows if any(rows) else ()


def _conditioned_frames(conditioning: list, frames: int) -> int:
    """Return the length of the clips that a CONDITIONING was made for; they may have been extended since."""
    return conditioning[0][1].get(FRAMES_KEY) or frames if conditioning else frames


def _token(model: LoadedModel, latent: Tensor) -> Tensor:
    """Return the image token [1, 1, D] of a scaled latent [1, 4, h, w]."""
    image = decode_latent(model.vae, {"samples": latent / LATENT_SCALE})  # [1, H, W, 3]
    return model.encode_image(image[..., :3].movedim(-1, 1).float() * 2 - 1)


def _gigabytes(model: LoadedModel, frames: int, size: tuple[int, int]) -> str:
    """Return the estimated activation memory of one pass as text."""
    return f"{unet_activation_bytes(model.config.unet, frames, *size, model.compute_dtype.itemsize) / 1e9:.2f} GB"


NODES = [SVDReelWindows, SVDReelExtend]
