"""Options of `animate` for networks that steer a clip: ControlNets and camera weights."""

import argparse

from ..controls.controlnet import NUMBERS, SUMS


def add_controlnet(group: argparse._ArgumentGroup) -> None:
    """Add the options."""
    group.add_argument(
        "--controlnet",
        metavar="nano|FILE",
        help="SVD ControlNet that steers the clip, such as a depth or line-art one; nano is the embedded line-art one "
        "for the model nano",
    )
    group.add_argument(
        "--controlnet-images",
        nargs="+",
        metavar="FILE",
        help="control pictures, one per frame: a clip, a folder of frames, or pictures in their order. The last is "
        "repeated if there are too few; a single one serves all frames",
    )
    group.add_argument(
        "--controlnet-lines",
        action="store_true",
        default=None,
        help="the control images are ordinary frames; draw their lines first, for a line-art ControlNet",
    )
    group.add_argument(
        "--controlnet-detail",
        type=float,
        metavar="N",
        help="faint lines that --controlnet-lines draws: 0.5 only strong ones, 2 more (default: 1)",
    )
    group.add_argument(
        "--controlnet-strength",
        metavar="N,...",
        help="strength of the control, 0 to 1.5; several values are a curve over the frames (default: 1)",
    )
    group.add_argument(
        "--controlnet-start", type=float, metavar="SHARE", help="start of the control, 0 to 1 (default: 0)"
    )
    group.add_argument(
        "--controlnet-end",
        type=float,
        metavar="SHARE",
        help="end of the control, 0 to 1; 0.6 leaves the last details to the model (default: 1)",
    )
    group.add_argument("--controlnet-mask", metavar="FILE", help="picture that is white where the control acts")
    group.add_argument(
        "--controlnet-sums",
        choices=SUMS,
        help="as trained counts the residuals of fine levels up to four times; once is ComfyUI-Advanced-ControlNet's "
        "way (default: as trained)",
    )
    group.add_argument(
        "--controlnet-numbers", choices=NUMBERS, help="motion numbers that the ControlNet gets (default: auto)"
    )
    group.add_argument(
        "--controlnet-conditional",
        action="store_true",
        default=None,
        help="control the conditional pass only; by default both passes of CFG, as in training",
    )


def add_camera_weights(group: argparse._ArgumentGroup) -> None:
    """Add the options for camera weights."""
    group.add_argument(
        "--camera-weights",
        metavar="FILE",
        help="MotionCtrl-SVD or CameraCtrl-SVD weights (.safetensors, see convert): the model itself follows --camera "
        "or --camera-poses, and nothing is warped. --camera-strength 1 is as trained",
    )
    group.add_argument(
        "--camera-poses",
        metavar="FILE",
        help="camera poses for --camera-weights instead of --camera: a RealEstate10K text or a JSON list of MotionCtrl",
    )
    group.add_argument(
        "--camera-speed",
        type=float,
        metavar="N",
        help="how far the camera travels with --camera-weights, 0 to 8; raise it if the motion is weak (default: 1)",
    )
    group.add_argument(
        "--camera-start", type=float, metavar="SHARE", help="start of --camera-weights, 0 to 1 (default: 0)"
    )
    group.add_argument(
        "--camera-end",
        type=float,
        metavar="SHARE",
        help="end of --camera-weights, 0 to 1; 0.6 frees the details (default: 1)",
    )
