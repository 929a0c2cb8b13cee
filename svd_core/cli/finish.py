"""`svd-reel finish CLIP|LATENT`: make a film of a clip or of saved latents, frame by frame."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..checkpoints import load_model
from ..checkpoints.load import read_state_dict
from ..checkpoints.source import read_header
from ..finish.codecs import BIT_DEPTHS, CODECS, codec_for
from ..finish.duration import fit_duration
from ..finish.movie import FilmOptions, check_film, write_film
from ..finish.sound import has_sound, read_sound
from ..finish.stream import ENDINGS, FITS, FilmProgress, Reel, film_size, to_size, with_progress
from ..memory import available_bytes
from ..model.decoding import decode, frames_to_image
from ..video import Clip, open_clip
from ..video.clip import parse_fps
from .options import model_files
from .outputs import check_outputs
from .progress import Progress

LATENT_SUFFIXES = (".latent", ".safetensors")
LATENT_NAMES = ("latent_tensor", "samples", "latent")
CLIP_FPS, FILM_FPS = 7, 24  # defaults: the rate SVD was trained at, and that of cinema


def add_finish(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `finish`."""
    parser.description = (
        "Make a film of a clip or of saved latents: enlarge it, add frames in between, choose the codec, add sound. "
        "Only a few frames are in memory at a time."
    )
    parser.set_defaults(run=run_finish)
    parser.add_argument("clip", metavar="CLIP|LATENT", help="clip file, folder of PNG frames, or saved latents")
    parser.add_argument("--output", required=True, metavar="FILM", help="film to write: .mp4, .webm or .mov (ProRes)")
    parser.add_argument(
        "--model", metavar="nano|FILE|FOLDER", help="decode latents with the VAE of this checkpoint (default: nano)"
    )
    parser.add_argument(
        "--width", type=int, default=0, metavar="PIXELS", help="width of the film (default: in proportion to --height)"
    )
    parser.add_argument(
        "--height",
        type=int,
        default=0,
        metavar="PIXELS",
        help="height of the film; 3840x2160 is 4K (default: in proportion to --width, or the clip's own)",
    )
    parser.add_argument(
        "--fit",
        choices=FITS,
        help="how the clip fills a size of another aspect: inside keeps the aspect within it, crop cuts the edges, "
        "pad adds borders, stretch distorts (default: inside)",
    )
    parser.add_argument(
        "--interpolate",
        type=int,
        metavar="N",
        help="steps from each frame to the next, 1 to 32: 2 adds one frame in between. Use it for smoother motion "
        "(default: 1)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="exact duration of the film; chooses the number of frames in between, instead of --interpolate",
    )
    parser.add_argument(
        "--fps",
        type=float,
        metavar="FPS",
        help="frames per second of the film (default: the clip's times --interpolate; 24 with --seconds)",
    )
    parser.add_argument(
        "--ending",
        choices=ENDINGS,
        default="open",
        help="open stops at the last frame, loop adds frames back to the first, ping-pong plays back to the start "
        "(default: open)",
    )
    parser.add_argument(
        "--codec",
        choices=tuple(CODECS),
        help="video codec (default: h264 for .mp4, vp9 for .webm, prores for .mov)",
    )
    parser.add_argument(
        "--bit-depth",
        type=int,
        choices=BIT_DEPTHS,
        help="bits per channel; 10 avoids banding in skies and gradients (default: 8, prores 10)",
    )
    parser.add_argument(
        "--quality", type=int, default=90, metavar="0..100", help="higher is better and larger (default: 90)"
    )
    parser.add_argument("--sound", metavar="FILE", help="add the sound of this audio or video file")
    parser.add_argument(
        "--keep-partial", action="store_true", help="after Ctrl-C, keep the frames made so far as a shorter film"
    )
    parser.add_argument("--quiet", action="store_true", help="print no progress")


def run_finish(options: argparse.Namespace) -> None:
    """Make the film; bad input is found before the first frame is made."""
    check_options(options)
    codec = options.codec or codec_for(Path(options.output).suffix)
    depth = options.bit_depth or min(CODECS[codec].formats)
    fit = options.fit or "inside"
    to_size(options.width, options.height, fit)
    latent = is_latent(options.clip)
    with Progress(options.quiet) as progress:
        if latent:
            source, clip_fps, metadata = read_latent(options.clip), 0.0, {}
        else:
            clip = open_clip(options.clip)
            source, clip_fps, metadata = *constant_rate(clip, options, progress), clip.metadata
        reel, fps = plan_reel(options, source, clip_fps or CLIP_FPS, progress)
        sound = None if options.sound is None else read_sound(options.sound, float(reel.count / parse_fps(fps)))
        film = FilmOptions(fps, codec, options.quality, depth, sound, metadata, keep_partial=options.keep_partial)
        check_film(options.output, film)
        if sound is None and not latent and has_sound(options.clip):
            progress.say(f"the film leaves out the sound of {options.clip}; give --sound {options.clip} to keep it")
        frames = decode_latent(source, options.model or "nano") if latent else source
        width, height = frames.shape[2:0:-1] if latent else (clip.width, clip.height)
        size = film_size(width, height, options.width, options.height, fit)
        reel = replace(reel, source=frames, steps=(size.apply,))

        def on_frame(now: FilmProgress) -> None:
            progress.count("writing", now.done, now.total, unit="frame")

        write_film(with_progress(reel.frames(), reel.count, reel.factor, on_frame), options.output, film)
        progress.say(f"{reel.count} frames of {size.width}x{size.height}, {reel.count / fps:.2f} s")
    print(options.output, flush=True)


def constant_rate(clip: Clip, options: argparse.Namespace, progress: Progress) -> tuple[Sequence[Tensor], float]:
    """Return the frames of a clip at a constant rate, and that rate; a clip of variable rate is resampled.

    The rate is what the film needs, or else that of the shortest usual interval, so that no frame is lost.
    """
    if clip.is_even:
        return clip, float(clip.fps)
    asked = options.fps / (options.interpolate or 1) if options.fps and options.seconds is None else 0.0
    rate = asked or clip.steady_fps
    progress.say(f"{clip.path} has a variable frame rate; it is resampled to {rate:g} fps, and its duration stays")
    return clip.at_rate(rate), rate


def check_options(options: argparse.Namespace) -> None:
    """Raise ValueError for options without effect, and for an output that is also an input."""
    if options.seconds is not None and options.interpolate is not None:
        raise ValueError(
            f"--seconds {options.seconds:g} chooses the frames in between itself; leave out --interpolate "
            f"{options.interpolate}, or --seconds"
        )
    if options.fit is not None and not (options.width or options.height):
        raise ValueError(
            f"--fit {options.fit} has no effect without a size; give --width and --height, or leave it out"
        )
    if options.model is not None and not is_latent(options.clip):
        raise ValueError(
            f"--model {options.model} only applies to latents ({', '.join(LATENT_SUFFIXES)}), and {options.clip} is a "
            "clip; leave it out"
        )
    inputs = {"CLIP": options.clip, "--sound": options.sound, **model_files(options)}
    check_outputs({"--output": options.output}, inputs)


def plan_reel(
    options: argparse.Namespace, source: Sequence[Tensor], clip_fps: float, progress: Progress
) -> tuple[Reel, float]:
    """Return the order of the frames or latents in the film, and the film's frames per second."""
    if options.seconds is None:
        factor = 1 if options.interpolate is None else options.interpolate
        fps = clip_fps * factor if options.fps is None else options.fps
        return Reel(source, factor=factor, ending=options.ending), fps
    fps = FILM_FPS if options.fps is None else options.fps
    factor, count = fit_duration(options.seconds, fps, len(source), options.ending)
    reel = Reel(source, factor=factor, ending=options.ending)
    if cut := reel.count - count:
        # A loop that is cut short jumps, which is what its ending should avoid.
        whole = f"; {reel.count / fps:.2f} s would repeat without a jump" if options.ending != "open" else ""
        progress.say(f"the last {cut} of {reel.count} frames are left out to last {options.seconds:g} s{whole}")
    return replace(reel, limit=count), fps


def is_latent(path: str) -> bool:
    """Return whether a file holds latents, by its name."""
    return Path(path).suffix.lower() in LATENT_SUFFIXES


def decode_latent(latent: Tensor, model: str) -> Tensor:
    """Return the frames [T, H, W, 3] in 0..1 of unscaled latents [T, 4, h, w], decoded by the VAE of a checkpoint."""
    vae = load_model(model).part("vae")
    return frames_to_image(decode(vae, latent, scaled=False, memory_limit=available_bytes(latent.device)))


def read_latent(path: str | Path) -> Tensor:
    """Return the unscaled latents [T, 4, h, w] of a safetensors file, such as ComfyUI's Save Latent writes."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"latents {path} do not exist; check the path")
    header = read_header(Path(path))
    name = next((name for name in LATENT_NAMES if name in header.entries), None)
    if name is None:
        raise ValueError(f"{path} has no latents (looked for {', '.join(LATENT_NAMES)}); save them with Save Latent")
    latent = read_state_dict(path)[name].float()
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise ValueError(f"{path} must hold latents [frames, 4, height, width] (got {list(latent.shape)}); use SVD's")
    return latent
