"""`python -m svd_core finish CLIP|LATENT`: a clip or saved latents become a film, frame by frame."""

import argparse
import sys
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
from ..video import read_clip
from .options import model_files
from .outputs import check_outputs
from .progress import Progress

LATENT_SUFFIXES = (".latent", ".safetensors")
LATENT_NAMES = ("latent_tensor", "samples", "latent")
CLIP_FPS, FILM_FPS = 7, 24  # where nobody says: what SVD was trained at, and cinema


def add_finish(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `finish`."""
    parser.description = "Make a film of a clip or of saved latents, a few frames in memory at a time."
    parser.set_defaults(run=run_finish)
    parser.add_argument("clip", metavar="CLIP|LATENT", help="clip file, folder of PNG frames, or saved latents")
    parser.add_argument("--output", required=True, metavar="FILM", help="film to write: .mp4, .webm or .mov (ProRes)")
    parser.add_argument("--model", metavar="nano|FILE|FOLDER", help="whose VAE decodes latents (default: nano)")
    parser.add_argument("--width", type=int, default=0, metavar="PIXELS", help="of the film (default: as the height)")
    parser.add_argument("--height", type=int, default=0, metavar="PIXELS", help="3840x2160 is 4K (default: the clip's)")
    parser.add_argument("--fit", choices=FITS, help="how the clip meets the size (default: inside)")
    parser.add_argument("--interpolate", type=int, metavar="N", help="steps from each frame to the next (default: 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="exact duration, in place of --interpolate")
    parser.add_argument(
        "--fps", type=float, metavar="FPS", help="of the film (default: the clip's x --interpolate; 24 with --seconds)"
    )
    parser.add_argument("--ending", choices=ENDINGS, default="open", help="how the film ends (default: open)")
    parser.add_argument("--codec", choices=tuple(CODECS), help="default: h264 for .mp4, vp9 for .webm, prores for .mov")
    parser.add_argument("--bit-depth", type=int, choices=BIT_DEPTHS, help="10 against banding (default: 8, prores 10)")
    parser.add_argument("--quality", type=int, default=90, metavar="0..100", help="default: 90")
    parser.add_argument("--sound", metavar="FILE", help="audio or video file whose sound goes with the film")
    parser.add_argument("--keep-partial", action="store_true", help="Ctrl-C leaves the frames so far as a film")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run_finish(options: argparse.Namespace) -> None:
    """Make the film; whatever can be found wrong is found before the first frame is made."""
    check_options(options)
    codec = options.codec or codec_for(Path(options.output).suffix)
    depth = options.bit_depth or min(CODECS[codec].formats)
    fit = options.fit or "inside"
    to_size(options.width, options.height, fit)
    sound = None if options.sound is None else read_sound(options.sound)
    counter = _Counter(options.quiet)
    latent = is_latent(options.clip)
    source, clip_fps, metadata = (read_latent(options.clip), 0.0, {}) if latent else read_clip(options.clip)
    reel, fps = planned(options, source, clip_fps or CLIP_FPS, counter)
    film = FilmOptions(fps, codec, options.quality, depth, sound, metadata, keep_partial=options.keep_partial)
    check_film(options.output, film)
    if sound is None and not latent and has_sound(options.clip):
        counter.say(f"{options.clip} has sound, which the film leaves out; give --sound {options.clip} to keep it")
    frames = decoded(source, options.model or "nano") if latent else source
    height, width = frames.shape[1:3]
    size = film_size(width, height, options.width, options.height, fit)
    reel = replace(reel, source=frames, steps=(size.apply,))
    write_film(with_progress(reel.frames(), reel.count, reel.factor, counter.show), options.output, film)
    counter.say(f"{reel.count} frames of {size.width}x{size.height}, {reel.count / fps:.2f} s")
    print(options.output, flush=True)


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that would count for nothing, and a film written over what it is made of."""
    if options.seconds is not None and options.interpolate is not None:
        raise ValueError(
            f"--seconds {options.seconds:g} chooses the steps itself; leave out --interpolate {options.interpolate}, "
            "or --seconds"
        )
    if options.fit is not None and not (options.width or options.height):
        raise ValueError(f"--fit {options.fit} needs a size to meet; give --width and --height, or leave it out")
    if options.model is not None and not is_latent(options.clip):
        raise ValueError(
            f"--model {options.model} decodes latents alone ({', '.join(LATENT_SUFFIXES)}), and {options.clip} is a "
            "clip; leave it out"
        )
    inputs = {"CLIP": options.clip, "--sound": options.sound, **model_files(options)}
    check_outputs({"--output": options.output}, inputs)


def planned(options: argparse.Namespace, source: Tensor, clip_fps: float, progress: Progress) -> tuple[Reel, float]:
    """The way through the frames or latents of a clip, and the film's frames per second."""
    if options.seconds is None:
        factor = 1 if options.interpolate is None else options.interpolate
        fps = clip_fps * factor if options.fps is None else options.fps
        return Reel(source, factor=factor, ending=options.ending), fps
    fps = FILM_FPS if options.fps is None else options.fps
    factor, count = fit_duration(options.seconds, fps, len(source), options.ending)
    reel = Reel(source, factor=factor, ending=options.ending)
    if cut := reel.count - count:
        # A repeat that is cut has a jump, which its name promises not to have.
        whole = f"; {reel.count / fps:.2f} s would repeat without a jump" if options.ending != "open" else ""
        progress.say(f"the last {cut} of {reel.count} frames are left out, to meet {options.seconds:g} s{whole}")
    return replace(reel, limit=count), fps


def is_latent(path: str) -> bool:
    """Whether a file holds latents, by its name."""
    return Path(path).suffix.lower() in LATENT_SUFFIXES


def decoded(latent: Tensor, model: str) -> Tensor:
    """Frames [T, H, W, 3] in 0..1 of latents, by the VAE of a model."""
    vae = load_model(model).part("vae")
    return frames_to_image(decode(vae, latent, scaled=False, memory_limit=available_bytes(latent.device)))


def read_latent(path: str | Path) -> Tensor:
    """Unscaled latents [T, 4, h, w] of a safetensors file, such as ComfyUI's Save Latent writes."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"latents {path} do not exist; check the path")
    header = read_header(Path(path))
    name = next((name for name in LATENT_NAMES if name in header.entries), None)
    if name is None:
        raise ValueError(f"{path} holds no latents under {', '.join(LATENT_NAMES)}; save them with Save Latent")
    return _tensor(path, name)


def _tensor(path: str | Path, name: str) -> Tensor:
    latent = read_state_dict(path)[name].float()
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise ValueError(f"{path} holds {list(latent.shape)}; SVD's latents are [frames, 4, height, width]")
    return latent


class _Counter(Progress):
    """The line that counts, with the time that is left."""

    def show(self, progress: FilmProgress) -> None:
        """Show how far the film is."""
        if self.quiet:
            return
        if self.live:
            end = "\n" if progress.done == progress.total else ""
            print(f"\r{progress.text()}\x1b[K", end=end, file=sys.stderr, flush=True)
        elif progress.done * 10 // progress.total > (progress.done - 1) * 10 // progress.total:
            self.say(progress.text())
