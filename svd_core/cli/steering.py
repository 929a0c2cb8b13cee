"""Options of `animate` that steer a clip: end pictures and loops, motion masks, drags."""

import argparse

from ..controls.brush import HOLD
from ..controls.camera.path import EASINGS
from ..controls.drag import BACKGROUND
from ..controls.driving_clip import USES
from ..controls.mask import FEATHER
from ..controls.signal import SIGNAL_MODES, DualClock
from ..controls.source_clip import DENOISE, SOURCE_MODES
from ..pipelines.between import FINE_TUNED, LOOP_MODES, MATCH
from ..pipelines.steered import ON, STEERING, USUAL_MODE

VALUES = {
    "motion_mask": " FILE",
    "end_image": " IMAGE",
    "drag": " PATH",
    "drag_mask": " FILE",
    "camera": " PATH",
    "extend": " N",
    "control_clip": " CLIP",
    "control_mask": " FILE",
    "source_clip": " CLIP",
    "controlnet": " FILE",
    "controlnet_images": " FILES",
    "camera_weights": " FILE",
    "camera_poses": " FILE",
    "between_weights": " FILE",
}
"""What follows an option in errors that name it."""


def add_between(group: argparse._ArgumentGroup) -> None:
    """Add the options for clips between given pictures."""
    group.add_argument(
        "--end-image",
        nargs="+",
        metavar="IMAGE",
        help="end the clip at this picture. Several pictures are reached one after the other; --frames then counts "
        "from one to the next",
    )
    group.add_argument(
        "--loop", action="store_true", help="end where the clip began, so that it repeats without a jump"
    )
    group.add_argument(
        "--between-mode",
        choices=(MATCH, *LOOP_MODES, FINE_TUNED),
        help="how the clip reaches its end: match moves one picture into the next where both show one scene, take "
        "turns denoises from both ends alternately, blend mixes the two, roll shifts the frames of a loop of one "
        "picture, fine-tuned needs --between-weights (default: match, or blend if the pictures do not match; for "
        "a loop, blend)",
    )
    group.add_argument(
        "--between-weights",
        metavar="FILE",
        help="backward motion of Generative Inbetweening for svd_xt (.safetensors, see convert), which sees the clip "
        "from its end picture. Two passes per step",
    )
    group.add_argument(
        "--between-repeats",
        type=int,
        metavar="N",
        help="repeat each step of the first half N times with --between-weights; 5 as published, for 3.5 times the "
        "time (default: 0)",
    )
    group.add_argument(
        "--between-strength", type=float, metavar="N", help="how closely the clip reaches its end, 0 to 1 (default: 1)"
    )
    group.add_argument(
        "--no-exact-ends",
        action="store_true",
        help="show what the model made of the end pictures, instead of their pixels",
    )


def add_brush(group: argparse._ArgumentGroup) -> None:
    """Add the options for motion masks and drags."""
    group.add_argument(
        "--motion-mask", metavar="FILE", help="picture of where things move: white areas move, black areas stay still"
    )
    group.add_argument(
        "--mask-feather",
        type=float,
        metavar="N",
        help=f"width of the soft edge of the mask, in %% of the side, 0 to 10 (default: {FEATHER:g})",
    )
    group.add_argument(
        "--mask-strength",
        type=float,
        metavar="N",
        help="share of the steps in which still areas are held, 0 to 1. Lower it if edges look cut out (default: 1)",
    )
    group.add_argument(
        "--mask-sigma",
        type=float,
        metavar="SIGMA",
        help=f"noise level down to which still areas are held (default: {HOLD})",
    )
    group.add_argument("--mask-invert", action="store_true", help="black areas of the mask move, white ones stay still")
    group.add_argument("--still-bucket", type=float, metavar="N", help="motion bucket of the still areas, 1 to 255")
    group.add_argument("--moving-bucket", type=float, metavar="N", help="motion bucket of the moving areas, 1 to 255")
    group.add_argument(
        "--no-keep-still",
        action="store_true",
        help="show what the model made of the still areas, instead of the pixels of your picture",
    )
    group.add_argument(
        "--drag",
        metavar="PATH",
        help='move the object of --drag-mask along the points "x,y; x,y", in 0..1 of width and height; "|" separates '
        "the paths of several objects. With --camera, the objects move in the scene that the camera films",
    )
    group.add_argument(
        "--drag-mask",
        nargs="+",
        metavar="FILE",
        help="picture of the object to drag, white on black; one for each path, later ones in front",
    )
    group.add_argument(
        "--drag-scale", metavar="N,...", help="sizes that the object reaches one after the other, starting at 1"
    )
    group.add_argument(
        "--drag-rotation", metavar="N,...", help="angles in degrees that the object reaches, starting at 0"
    )
    group.add_argument("--drag-easing", choices=tuple(EASINGS), help="speed along the path (default: linear)")
    group.add_argument(
        "--drag-strength",
        type=float,
        metavar="N",
        help="how strictly the object follows the path: 0 is off, 1 follows it, 2 is nearly a moved cut-out "
        "(default: 1, or --camera-strength)",
    )
    group.add_argument(
        "--drag-sigma",
        type=float,
        metavar="SIGMA",
        help=f"noise level down to which the path is imposed; lower is stricter (default: {DualClock.sigma:g})",
    )
    group.add_argument(
        "--drag-background",
        type=float,
        metavar="N",
        help=f"how firmly the rest of the picture is held, 0 to 1; with --camera it follows that instead "
        f"(default: {BACKGROUND})",
    )


def add_driving_clip(group: argparse._ArgumentGroup) -> None:
    """Add the options for control by a clip."""
    group.add_argument(
        "--control-clip",
        metavar="CLIP",
        help="clip that gives the motion: a video, an animation, or a folder of frames. Begin an animation with the "
        "picture itself",
    )
    group.add_argument(
        "--control-use",
        choices=USES,
        help="what is taken from the clip: animation its frames, camera the motion that most of it shares, flow the "
        f"motion of every pixel, for a picture with the same layout (default: {USES[0]})",
    )
    group.add_argument(
        "--control-mask",
        metavar="FILE",
        help="where an animation counts, white: a picture, or a clip of as many frames",
    )
    group.add_argument(
        "--control-amount", type=float, metavar="N", help="factor of the clip's motion, 0.5 to 1.5 (default: 1)"
    )
    group.add_argument(
        "--control-strength",
        type=float,
        metavar="N",
        help="how closely the clip is followed: 0 is off, 1 follows it, 2 is nearly the rough frames (default: 1)",
    )
    group.add_argument(
        "--control-mode",
        choices=tuple(SIGNAL_MODES),
        help=f"how the clip is imposed, as with --camera-mode (default: {USUAL_MODE})",
    )


def add_source_clip(group: argparse._ArgumentGroup, *, command: str = "animate") -> None:
    """Add the options for a clip that is changed; `edit` takes the clip itself by position."""
    if command == "animate":
        group.add_argument(
            "--source-clip",
            metavar="CLIP",
            help="clip to change: sampling starts from its frames. IMAGE is its first frame, as it is or edited; the "
            "edit is carried along the motion of the clip",
        )
    group.add_argument(
        "--denoise",
        type=float,
        metavar="N",
        help=f"share of the sampling that changes the clip: 0.2 keeps nearly everything, 0.6 keeps the layout, 1 keeps "
        f"nothing (default: {DENOISE:g})",
    )
    group.add_argument(
        "--source-mode",
        choices=SOURCE_MODES,
        help="what sampling starts with: the frames with random noise, or the noise that the model would turn into "
        "them, which keeps what was not edited at more denoising and takes up to three times as long "
        f"(default: {SOURCE_MODES[0]})",
    )


def steering_of(options: argparse.Namespace) -> dict[str, object]:
    """Return the values of the options that are used, by the names of Steering, with pictures as paths."""
    given = {name: getattr(options, name, None) for name in STEERING}
    used = {name: value for name, value in given.items() if value is not None and value is not False}
    return used | {name: False for name in ON if getattr(options, f"no_{name}", False)}


def option_of(name: str) -> str:
    """Return the option of a field, with the word for its value if it needs one."""
    if name in ON:
        return f"--no-{name.replace('_', '-')}"
    return f"--{name.replace('_', '-')}{VALUES.get(name, '')}"
