"""`svd-reel train DATA --output LORA.safetensors`: encode the clips, train, validate, write the file."""

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
from ..lora.save import NAMES
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
    default_settings,
    memory_of_run,
    memory_text,
    run_folder,
    training_metadata,
    trigger_of,
    validation_settings,
)
from ..training.network import COMPUTED_IN, default_precision
from ..training.optimizers import check_optimizer
from ..training.settings import CHOICES, TrainSettings
from ..training.state import make_folder, read_state
from ..training.trainer import Trainer, TrainingProgress, TrainResult
from ..training.validation import Validation
from .models import computing_device
from .progress import Progress, since
from .signals import Terminated, is_terminated, stop_requests

METHODS = ("lora", "temporal", "full")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    parser.description = (
        "Train on a video, a folder of videos or of frames, or on photographs over which a camera moves. NAME.run "
        "beside the output keeps the encoded clips, state, log, loss curve and validation clips. Ctrl-C saves the "
        "state; the same command with --resume continues."
    )
    parser.set_defaults(run=run_train)
    parser.add_argument("data", metavar="DATA", help="video, folder of videos or frames, photograph or folder of them")
    parser.add_argument("--output", required=True, metavar="FILE.safetensors", help="LoRA or checkpoint to write")
    parser.add_argument(
        "--model",
        default="nano",
        metavar="nano|FILE|FOLDER",
        help="checkpoint to train: a file, a diffusers folder, or nano, the small model inside this package "
        "(default: nano)",
    )
    parser.add_argument(
        "--complete-from", metavar="FILE", help="full checkpoint that supplies the parts missing from --model"
    )
    _add_data_options(parser.add_argument_group("clips"))
    _add_training_options(parser.add_argument_group("training"))
    _add_run_options(parser.add_argument_group("run"))


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--stills",
        default="",
        metavar="MOVE",
        help='treat pictures as photographs and move a camera over them, such as "pan left" or "zoom in, roll cw". '
        "Use it to train a camera LoRA",
    )
    group.add_argument("--width", type=int, metavar="PIXELS", help="width of the clips (default: nano's own, else 576)")
    group.add_argument(
        "--height", type=int, metavar="PIXELS", help="height of the clips (default: nano's own, else 320)"
    )
    group.add_argument("--frames", type=int, help="frames of a clip; memory grows with them (default: at most 14)")
    group.add_argument(
        "--fps", type=float, help="frames per second of the clips (default: the file's rate divided to be near 7)"
    )
    group.add_argument(
        "--frame-fps",
        type=float,
        default=0.0,
        metavar="FPS",
        help="rate at which folders of frames were filmed, 1 to 1000; gives the right motion labels (default: unknown)",
    )
    group.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="frames between the starts of clips; less gives more (default: no overlap)",
    )
    group.add_argument(
        "--bucket", type=float, metavar="N", help="motion bucket of all clips, 0 to 255 (default: measured per clip)"
    )
    group.add_argument(
        "--label-fps",
        type=float,
        metavar="FPS",
        help="frame rate that the clips are labelled with, 6 to 30 (default: their own)",
    )
    group.add_argument(
        "--least-motion",
        type=float,
        metavar="SPEED",
        help="leave out clips that move less, in %% of the diagonal per second; 0 keeps all (default: 0.3)",
    )
    group.add_argument(
        "--clips-per-still",
        type=int,
        default=0,
        metavar="N",
        help="clips of each photograph (default: about 64 in all)",
    )
    group.add_argument("--most-clips", type=int, metavar="N", help="take at most N clips of a video (default: all)")


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--method",
        choices=METHODS,
        default="lora",
        help="lora trains a small file beside the model; temporal and full train its temporal layers or all weights, "
        "which needs far more memory (default: lora)",
    )
    group.add_argument(
        "--targets",
        choices=CHOICES["targets"],
        help="layers that a LoRA changes: temporal for motion, spatial for the look, all adds feed-forward layers "
        "(default: temporal with --stills, else both)",
    )
    group.add_argument("--steps", type=int, help="steps of the whole run, 300 to 3000 (default: 800; nano 300)")
    group.add_argument(
        "--rate",
        type=float,
        help="highest learning rate. Lower it if the loss stops being a number (default: 1e-4 for a LoRA; nano 2e-3)",
    )
    group.add_argument(
        "--rank", type=int, help="rank of a LoRA, 4 to 64; more can learn more (default: 8 with --stills, else 16)"
    )
    group.add_argument("--alpha", type=float, help="alpha of a LoRA, which scales its effect (default: the rank)")
    group.add_argument("--batch", type=int, help="clips in one forward pass (default: 1; nano 2)")
    group.add_argument(
        "--accumulation",
        type=int,
        metavar="N",
        help="forward passes per step; steadier without more memory (default: 4; nano 1)",
    )
    group.add_argument(
        "--warmup", type=int, metavar="STEPS", help="steps over which the rate rises (default: 100; nano 20)"
    )
    group.add_argument("--schedule", choices=CHOICES["schedule"], help="learning rate after warm-up (default: cosine)")
    group.add_argument(
        "--optimizer",
        choices=CHOICES["optimizer"],
        help="adamw8bit saves memory and needs bitsandbytes (default: adamw)",
    )
    group.add_argument(
        "--precision",
        choices=CHOICES["precision"],
        help="precision of the computation; trained weights stay float32 (default: bf16 on CUDA, fp16 on cards "
        "without bf16, else float32)",
    )
    group.add_argument(
        "--p-mean",
        type=float,
        metavar="N",
        help="mean logarithm of the noise levels; higher trains motion, lower detail (default: by size and --stills)",
    )
    group.add_argument(
        "--ema",
        type=float,
        metavar="DECAY",
        help="average the weights over steps; 0 is off (default: 0.999; nano 0.98)",
    )
    group.add_argument(
        "--checkpointing",
        choices=("on", "off"),
        help="recompute activations: far less memory, a third more time (default: on; nano off)",
    )
    group.add_argument(
        "--seed", type=int, default=0, help="same seed, data and machine give the same weights (default: 0)"
    )


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--resume", action="store_true", help="continue the run in NAME.run")
    group.add_argument(
        "--save-every", type=int, metavar="STEPS", help="save the state every STEPS steps (default: 100)"
    )
    group.add_argument(
        "--validation",
        metavar="IMAGE",
        help="picture to animate during training (default: a photograph of this package)",
    )
    group.add_argument(
        "--validate-every",
        type=int,
        metavar="STEPS",
        help="animate it every STEPS steps; 0 is never (default: 4 times)",
    )
    group.add_argument(
        "--trigger", default="", metavar="TEXT", help="note on how to use the result, kept in the file's metadata"
    )
    group.add_argument(
        "--names",
        choices=tuple(NAMES),
        help="names of the tensors of a LoRA: single-file for ComfyUI, diffusers for diffusers and PEFT, kohya for "
        "others (default: single-file)",
    )
    group.add_argument(
        "--device", default="auto", help="device to compute on: cpu, cuda, cuda:1, mps (default: the fastest available)"
    )
    group.add_argument("--quiet", action="store_true", help="print no progress")


def run_train(options: argparse.Namespace) -> None:
    """Train and write the file; bad input is found before the model is loaded."""
    output = Path(options.output).expanduser()
    config = inspect_checkpoint(options.model).config
    plan = clip_plan(config, **vars(options))
    device = computing_device(options.device)
    settings = settings_of(options, config, plan, device)
    check_optimizer(settings.optimizer)
    check_labels(options.bucket, options.label_fps)
    if options.names and settings.method != "lora":
        raise ValueError(
            f"--names has no effect with --method {settings.method}, which writes a checkpoint; leave it out"
        )
    sources = find_sources(
        options.data, move=options.stills, stills_count=options.clips_per_still, frame_fps=options.frame_fps
    )
    picture = composite(open_picture(options.validation or DEMO))
    with Progress(options.quiet) as progress:
        progress.say(memory_text(memory_of_run(config, settings, plan), settings, plan))
        _check_output(output)
        _check_run(run_folder(output), options.resume)
        with _naming_the_next_command():
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
    """Encode the clips, train and write the result."""
    folder = run_folder(output)
    model = load_model(options.model, device=device, dtype=torch.float32, complete_from=options.complete_from)
    start = time.monotonic()
    clips = encode_sources(
        sources,
        plan,
        model,
        folder / "clips",
        encoders=encoder_digest(model.vae, model.image_encoder),
        on_clip=lambda name, count: progress.say(f"encoding clip {count + 1}, {name}") if count % 20 == 0 else None,
    )
    progress.say(f"{clips.text()}, {since(start)}")
    validation = _validation(model, picture, clips, options, device, folder)
    _free_memory(model, settings, device)
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
    notes = training_metadata(model.variant, settings, plan, data=data, trigger=trigger, labels=labels)
    print(write_result(output, model, result, settings, notes, options.names or "single-file"), flush=True)


def settings_of(options: argparse.Namespace, config: SVDConfig, plan: ClipPlan, device: torch.device) -> TrainSettings:
    """Return the settings of the options, completed by the defaults for the model and the device."""
    names = ("targets", "steps", "rate", "rank", "alpha", "batch", "accumulation", "warmup", "schedule", "optimizer")
    names += ("precision", "p_mean", "ema", "seed", "save_every", "validate_every")
    given = {name: getattr(options, name) for name in names}
    given["precision"] = given["precision"] or default_precision(device)
    if options.checkpointing:
        given["gradient_checkpointing"] = options.checkpointing == "on"
    return default_settings(config, plan, camera=bool(options.stills), method=options.method, **given)


@contextmanager
def _naming_the_next_command() -> Iterator[None]:
    """Add the command that continues the run to the message of Ctrl-C or SIGTERM."""
    try:
        yield
    except KeyboardInterrupt as stop:
        again = shlex.join([*(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
        message = str(stop) or "stopped; the clips encoded so far and the last saved state are kept"
        kind = Terminated if is_terminated(stop) else KeyboardInterrupt
        raise kind(f"{message}; continue with\n  python -m svd_core {again}") from None


def _check_output(output: Path) -> None:
    folder = run_folder(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"--output must end in .safetensors (got {output}); change its name")
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder; choose another name")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, but must be the folder of the run; choose another --output, or move it")
    make_folder(output.parent)
    check_writable(output)
    remove_leftovers(output.parent)


def _check_run(folder: Path, resume: bool) -> None:
    state = read_state(folder)
    if state and not resume:
        raise ValueError(
            f"{folder} has a run of {state[1]['step']} steps; add --resume to continue it, choose another --output, or "
            "delete that folder to start again"
        )
    if resume and not folder.exists():
        raise ValueError(f"there is no run to resume at {folder}; leave out --resume")


def _validation(
    model: SVDModel, picture: Tensor, clips: ClipSet, options: argparse.Namespace, device: torch.device, folder: Path
) -> Validation:
    rates = sorted(clip.fps for clip in clips.clips)
    fps = rates[len(rates) // 2] if options.label_fps is None else options.label_fps
    settings = validation_settings(model.config, clips.plan, options.bucket, fps)
    return Validation(model, picture, settings, decoder(model, device), folder / "validation")


def _free_memory(model: SVDModel, settings: TrainSettings, device: torch.device) -> None:
    """Move the encoders off the device, and the frozen weights of a LoRA to the precision of the computation."""
    if device.type == "cpu":
        return
    model.part("vae").to("cpu")
    model.part("image_encoder").to("cpu")
    if settings.method == "lora" and settings.precision != "float32":
        model.part("unet").to(COMPUTED_IN[settings.precision])
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
    """Run the trainer. The first Ctrl-C or SIGTERM ends it after the current step, with the state saved."""
    unet = model.part("unet")
    if settings.validate_every and read_state(folder) is None:
        validation(unet, 0)

    def on_step(now: TrainingProgress) -> None:
        tenth = now.step * 10 // now.steps > (now.step - 1) * 10 // now.steps
        # Reading the loss makes an accelerator wait, so it is not read at every step.
        read = tenth or (progress.live and now.step % settings.log_every == 0)
        note = f"loss {now.loss:.4f}" if read else ""
        progress.count("training", now.step, now.steps, unit="step", note=note)

    with stop_requests() as requests:
        result = Trainer(unet, source, settings, folder).run(
            on_step=on_step, should_stop=lambda: bool(requests), validate=validation, validated=validation.has
        )
    if result.stopped:
        kind = Terminated if signal.SIGTERM in requests else KeyboardInterrupt
        raise kind(f"stopped after {result.steps} of {settings.steps} steps; the state is saved")
    return result


def write_result(
    output: Path,
    model: SVDModel,
    result: TrainResult,
    settings: TrainSettings,
    notes: dict[str, object],
    names: str = "single-file",
) -> Path:
    """Write the trained LoRA, or the whole checkpoint, and return its path."""
    if settings.method == "lora":
        blocks = model.config.unet.num_res_blocks
        return save_lora(output, halved(result.adapters), notes, names=names, blocks=blocks)
    weights = dict(model.part("unet").state_dict()) | result.weights
    return save_checkpoint(output, model, weights, metadata=notes)
