"""`python -m svd_core train DATA --output LORA.safetensors`: clips, training, validation and the finished file."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints import inspect_checkpoint, load_model
from ..files import check_writable, remove_leftovers
from ..lora import save_lora
from ..lora.save import notice_path
from ..model.model import SVDModel
from ..networks.config import SVDConfig
from ..pictures import composite, open_picture
from ..training.data.cache import ClipSet, encode_sources, encoder_digest
from ..training.data.cutting import ClipPlan
from ..training.data.samples import ClipSource, check_labels
from ..training.data.sources import Source, find_sources
from ..training.export import halved, save_checkpoint
from ..training.job import (
    DEMO,
    clip_plan,
    decoder,
    memory_text,
    run_folder,
    suited,
    told,
    trigger_of,
    validation_settings,
)
from ..training.optimizers import check_optimizer
from ..training.settings import CHOICES, TrainSettings
from ..training.state import make_folder, read_state
from ..training.trainer import Progress as TrainProgress
from ..training.trainer import Trainer, TrainResult
from ..training.validation import Validation
from .models import pick_device
from .progress import Progress, since

METHODS = ("lora", "temporal", "full")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    parser.description = (
        "Train on a video, a folder of videos or of frames, or on photographs over which a camera moves. "
        "Everything is kept beside the output in NAME.run: encoded clips, state, log, loss curve, validation clips. "
        "Ctrl-C saves; the same command with --resume goes on."
    )
    parser.set_defaults(run=run_train)
    parser.add_argument("data", metavar="DATA", help="video, folder of videos or frames, photograph or folder of them")
    parser.add_argument("--output", required=True, metavar="FILE.safetensors", help="LoRA or checkpoint to write")
    parser.add_argument(
        "--model", default="nano", metavar="nano|FILE|FOLDER", help="checkpoint (default: the embedded nano)"
    )
    parser.add_argument("--complete-from", metavar="FILE", help="full checkpoint that lends the parts --model lacks")
    _add_data_options(parser.add_argument_group("clips"))
    _add_training_options(parser.add_argument_group("training"))
    _add_run_options(parser.add_argument_group("run"))


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--stills",
        default="",
        metavar="MOVE",
        help='take pictures for photographs and move a camera over them, such as "pan left" or "zoom in, roll cw"',
    )
    group.add_argument("--width", type=int, metavar="PIXELS", help="of clips (default: nano's own, else 576)")
    group.add_argument("--height", type=int, metavar="PIXELS", help="of clips (default: nano's own, else 320)")
    group.add_argument("--frames", type=int, help="of a clip (default: the model's own, at most 14)")
    group.add_argument("--fps", type=float, help="of clips (default: the part of the file's own that is nearest to 7)")
    group.add_argument("--frame-fps", type=float, default=0.0, metavar="FPS", help="of folders of frames, if known")
    group.add_argument("--stride", type=int, metavar="N", help="frames between starts of clips (default: no overlap)")
    group.add_argument("--bucket", type=float, metavar="N", help="motion bucket of all clips (default: measured)")
    group.add_argument(
        "--label-fps", type=float, metavar="FPS", help="rate that clips are told by (default: their own)"
    )
    group.add_argument(
        "--least-motion", type=float, metavar="SPEED", help="leave out slower clips, %% of the diagonal a second (0.3)"
    )
    group.add_argument("--clips-per-still", type=int, default=0, metavar="N", help="default: about 64 in all")
    group.add_argument("--most-clips", type=int, metavar="N", help="of one video (default: all)")


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--method",
        choices=METHODS,
        default="lora",
        help="lora, or the weights: temporal layers or full (default: lora)",
    )
    group.add_argument("--targets", choices=CHOICES["targets"], help="layers of a LoRA (stills: temporal, else both)")
    group.add_argument("--steps", type=int, help="in all (default: 800, nano 300)")
    group.add_argument("--rate", type=float, help="highest learning rate (default: 1e-4 for a LoRA; nano 2e-3)")
    group.add_argument("--rank", type=int, help="of a LoRA (default: 8 for a camera, else 16)")
    group.add_argument("--alpha", type=float, help="of a LoRA (default: the rank)")
    group.add_argument("--batch", type=int, help="clips at once (default: 1, nano 2)")
    group.add_argument("--accumulation", type=int, metavar="N", help="batches of a step (default: 4, nano 1)")
    group.add_argument("--warmup", type=int, metavar="STEPS", help="until the rate is reached")
    group.add_argument("--schedule", choices=CHOICES["schedule"], help="of the rate (default: cosine)")
    group.add_argument("--optimizer", choices=CHOICES["optimizer"], help="default: adamw")
    group.add_argument("--precision", choices=CHOICES["precision"], help="default: bf16 on CUDA, else float32")
    group.add_argument(
        "--p-mean", type=float, metavar="N", help="mean logarithm of the noise levels (default: by size)"
    )
    group.add_argument("--ema", type=float, metavar="DECAY", help="of averaged weights, 0 for none")
    group.add_argument("--checkpointing", choices=("on", "off"), help="less memory, more time (default: on, nano off)")
    group.add_argument("--seed", type=int, default=0, help="same seed, data and machine: same weights (default: 0)")


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--resume", action="store_true", help="go on with the run in NAME.run")
    group.add_argument("--save-every", type=int, metavar="STEPS", help="of the state (default: 100)")
    group.add_argument("--validation", metavar="IMAGE", help="picture to animate meanwhile (default: a photograph)")
    group.add_argument("--validate-every", type=int, metavar="STEPS", help="0 for never (default: 4 times in all)")
    group.add_argument("--trigger", default="", metavar="TEXT", help="note on how to use the result, kept in the file")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest there is)")
    group.add_argument("--quiet", action="store_true", help="no progress")


def run_train(options: argparse.Namespace) -> None:
    """Train; whatever can be found wrong is found before the model is loaded."""
    progress = Progress(options.quiet)
    output = Path(options.output).expanduser()
    config = inspect_checkpoint(options.model).config
    plan = clip_plan(config, **vars(options))
    device = pick_device(options.device)
    settings = settings_of(options, config, plan, device)
    check_optimizer(settings.optimizer)
    check_labels(options.bucket, options.label_fps)
    sources = find_sources(
        options.data, move=options.stills, stills_count=options.clips_per_still, frame_fps=options.frame_fps
    )
    picture = composite(open_picture(options.validation or DEMO))
    progress.say(memory_text(config, settings, plan))
    _check_output(output)
    _check_begun(run_folder(output), options.resume)
    with _told_how_to_go_on():
        _run(options, output, plan, settings, sources, picture, device, progress)


def _run(
    options: argparse.Namespace,
    output: Path,
    plan: ClipPlan,
    settings: TrainSettings,
    sources: list[Source],
    picture: Tensor,
    device: torch.device,
    progress: Progress,
) -> None:
    """Encode, train and write the result."""
    folder = run_folder(output)
    model = load_model(options.model, device=device, dtype=torch.float32, complete_from=options.complete_from)
    start = time.monotonic()
    clips = encode_sources(
        sources,
        plan,
        model,
        folder / "clips",
        encoders=encoder_digest(model.vae, model.image_encoder),
        on_clip=lambda name, count: progress.say(f"clip {count + 1}, {name}") if count % 20 == 0 else None,
    )
    progress.say(f"{clips.text()}, {since(start)}")
    validation = _validation(model, picture, clips, options, device, folder)
    _leave_room(model, settings, device)
    source = ClipSource(
        clips,
        bucket=options.bucket,
        fps=options.label_fps,
        seed=settings.seed,
        both_ways=settings.method == "lora",
    )
    result = _train(model, source, settings, folder, validation, progress)
    data = f"{len(clips.clips)} clips of {len(sources)} sources" + (f", camera {options.stills}" * bool(options.stills))
    labels = {"bucket": options.bucket, "fps": options.label_fps}
    trigger = options.trigger or trigger_of(options.stills)
    notes = told(model.variant, settings, plan, data=data, trigger=trigger, labels=labels)
    if result.stopped:
        raise KeyboardInterrupt(f"stopped after {result.steps} of {settings.steps} steps, all is saved")
    remove_leftovers(output.parent, output.name)
    remove_leftovers(output.parent, notice_path(output).name)
    print(write_result(output, model, result, settings, notes), flush=True)


def settings_of(options: argparse.Namespace, config: SVDConfig, plan: ClipPlan, device: torch.device) -> TrainSettings:
    """The settings that the options ask for, completed by what suits model and device."""
    names = ("targets", "steps", "rate", "rank", "alpha", "batch", "accumulation", "warmup", "schedule", "optimizer")
    names += ("precision", "p_mean", "ema", "seed", "save_every", "validate_every")
    given = {name: getattr(options, name) for name in names}
    given["precision"] = given["precision"] or ("bf16" if device.type == "cuda" else "float32")
    if options.checkpointing:
        given["gradient_checkpointing"] = options.checkpointing == "on"
    return suited(config, plan, camera=bool(options.stills), method=options.method, **given)


@contextmanager
def _told_how_to_go_on() -> Iterator[None]:
    """Give Ctrl-C the command that goes on from what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        again = shlex.join([*(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
        said = str(stop) or "stopped, the clips encoded so far and the last state are kept"
        raise KeyboardInterrupt(f"{said}; go on with\n  python -m svd_core {again}") from None


def _check_output(output: Path) -> None:
    folder = run_folder(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"--output {output} is no safetensors file; end its name in .safetensors")
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder; choose another name")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}, where the run is kept, is a file; choose another --output, or move it away")
    make_folder(output.parent)
    check_writable(output)


def _check_begun(folder: Path, resume: bool) -> None:
    begun = read_state(folder)
    if begun and not resume:
        raise ValueError(
            f"{folder} holds a run of {begun[1]['step']} steps; add --resume to go on with it, choose another "
            "--output, or delete that folder to begin anew"
        )
    if resume and not folder.exists():
        raise ValueError(f"there is no run to go on with at {folder}; leave out --resume")


def _validation(
    model: SVDModel, picture, clips: ClipSet, options: argparse.Namespace, device: torch.device, folder: Path
) -> Validation:
    rates = sorted(clip.fps for clip in clips.clips)
    fps = rates[len(rates) // 2] if options.label_fps is None else options.label_fps
    settings = validation_settings(model.config, clips.plan, options.bucket, fps)
    return Validation(model, picture, settings, decoder(model, device), folder / "validation")


def _leave_room(model: SVDModel, settings: TrainSettings, device: torch.device) -> None:
    """Send encoders away that training does not need; frozen weights need no more precision than the network has."""
    if device.type == "cpu":
        return
    model.part("vae").to("cpu")
    model.part("image_encoder").to("cpu")
    if settings.method == "lora" and settings.precision != "float32":
        model.part("unet").to(torch.bfloat16 if settings.precision == "bf16" else torch.float16)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _train(
    model: SVDModel,
    source: ClipSource,
    settings: TrainSettings,
    folder: Path,
    validation: Validation,
    progress: Progress,
) -> TrainResult:
    """Run the trainer; Ctrl-C ends it after the step that it is in."""
    unet = model.part("unet")
    if settings.validate_every and read_state(folder) is None:
        validation(unet, 0)

    def on_step(now: TrainProgress) -> None:
        tenth = now.step * 10 // now.steps > (now.step - 1) * 10 // now.steps
        # Not at every step: reading the loss makes an accelerator wait.
        if tenth or (progress.live and now.step % settings.log_every == 0):
            left = now.seconds / now.step * (now.steps - now.step)
            progress.count(f"loss {now.loss:.4f}, {left:.0f} s to go, step", now.step, now.steps)

    with _stopping() as asked:
        return Trainer(unet, source, settings, folder).run(
            on_step=on_step, should_stop=lambda: bool(asked), validate=validation, validated=validation.has
        )


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """A list that the first Ctrl-C fills; the second one interrupts."""
    asked: list[int] = []

    def ask(number: int, frame) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def write_result(
    output: Path, model: SVDModel, result: TrainResult, settings: TrainSettings, notes: dict[str, object]
) -> Path:
    """Write what was trained: a LoRA, or a whole checkpoint."""
    if settings.method == "lora":
        return save_lora(output, halved(result.adapters), notes)
    weights = dict(model.part("unet").state_dict()) | result.weights
    return save_checkpoint(output, model, weights, metadata=notes)
