"""Helpers for the entries of INPUT_TYPES, and the inputs that several nodes share."""

from ...svd_core.pipelines.control_settings import parse_numbers  # noqa: F401  nodes read it here
from ...svd_core.pipelines.settings import BUCKET, SETTINGS, STEERED_BUCKET

CATEGORY = "SVD Reel"
FIT_MODES = SETTINGS["fit"].choices
MAX_SEED = 2**64 - 1
MAX_FRAMES = 1024
MAX_BUCKET = 1023


def socket(kind: str, tooltip: str, *, advanced: bool = False, linked: bool = False) -> tuple:
    """Return an input that takes a link; `linked` keeps hosts from drawing a widget of their own for the type."""
    return (kind, _options(tooltip, advanced) | ({"forceInput": True} if linked else {}))


def whole(default: int, low: int, high: int, tooltip: str, *, step: int = 1, advanced: bool = False, **more) -> tuple:
    """Return a widget for a whole number in low..high."""
    return ("INT", {"default": default, "min": low, "max": high, "step": step, **more, **_options(tooltip, advanced)})


def decimal(
    default: float, low: float, high: float, tooltip: str, *, step: float = 0.1, advanced: bool = False
) -> tuple:
    """Return a widget for a number in low..high, not rounded to its step."""
    bounds = {"default": default, "min": low, "max": high, "step": step, "round": False}
    return ("FLOAT", bounds | _options(tooltip, advanced))


def choice(options, tooltip: str, *, default: str | None = None, advanced: bool = False) -> tuple:
    """Return a widget with a list of choices; `default` is the first one unless given."""
    options = list(options)
    return (options, {"default": default or options[0]} | _options(tooltip, advanced))


def switch(default: bool, tooltip: str, *, advanced: bool = False) -> tuple:
    """Return a widget for on or off."""
    return ("BOOLEAN", {"default": default} | _options(tooltip, advanced))


def text(default: str, tooltip: str, *, advanced: bool = False) -> tuple:
    """Return a widget for one line of text."""
    return ("STRING", {"default": default} | _options(tooltip, advanced))


def _options(tooltip: str, advanced: bool) -> dict:
    return {"tooltip": tooltip, "advanced": True} if advanced else {"tooltip": tooltip}


MODEL = socket("SVD_MODEL", "The model from Load SVD Model.")
IMAGE = socket(
    "IMAGE",
    "The image to animate, of any size. Transparent pixels are filled with a plain colour. A batch of several images "
    "gives several clips, one after the other.",
)
WIDTH = whole(
    0,
    0,
    int(SETTINGS["width"].high),
    "Width of the clip in pixels, a multiple of 8. 0 uses the size the model was trained on (1024 for SVD, 128 for "
    "nano), which moves best. Larger sizes need more memory and time, and move less.",
    step=8,
)
HEIGHT = whole(
    0,
    0,
    int(SETTINGS["height"].high),
    "Height of the clip in pixels, a multiple of 8. 0 uses the size the model was trained on (576 for SVD, 128 for "
    "nano). For portrait, swap width and height; this works slightly less well.",
    step=8,
)
FRAMES = whole(
    0,
    0,
    MAX_FRAMES,
    "Number of frames. 0 uses the length the model was trained on: 14 for SVD, 25 for SVD-XT. More frames need "
    "proportionally more memory, and the clip drifts.",
)
FIT = choice(
    FIT_MODES,
    "How an image of another aspect ratio fills the clip. crop cuts off its sides. pad keeps the whole image on a "
    "blurred border, which Decode SVD Clip cuts off again. stretch distorts it.",
)
SEED = whole(
    SETTINGS["seed"].default,
    0,
    MAX_SEED,
    "Seed of the noise. The same seed gives the same clip on every device; image 2 of a batch uses seed + 1, and so "
    "on.",
    control_after_generate=True,
)
MOTION_BUCKET = whole(
    BUCKET,
    0,
    MAX_BUCKET,
    "Amount of motion. 127 is the official value; 20 to 60 is calm, 80 to 110 suits portraits and products, 150 to "
    "255 is lively. Values above 255 were never trained and tend to break the image.",
)
VAE = socket("VAE", "A VAE for encoding, instead of the model's own.", advanced=True)
BEHIND = text("white", "Colour behind transparent pixels: a name such as white or black, or #rrggbb.", advanced=True)
STEERED_MOTION_BUCKET = whole(
    STEERED_BUCKET,
    -1,
    1023,
    f"Motion bucket of the clip while motion is imposed. {STEERED_BUCKET} follows best, because the model then adds "
    "little motion of its own. -1 keeps the bucket of Set Motion or Prepare Image for SVD.",
)
CAMERA_STRENGTH = decimal(
    SETTINGS["camera_strength"].default,
    0.0,
    3.0,
    "How closely clips follow their camera move. 0 is off, 1 follows it, 2 is almost a slide show.",
    step=0.05,
    advanced=True,
)
CAMERA_MODE = choice(
    SETTINGS["camera_mode"].choices,
    "How a camera move is imposed, as in Control Camera. partial re-noise is fastest; dual clock leaves uncovered "
    "areas free; replace estimate is strictest.",
    advanced=True,
)
FPS = whole(
    SETTINGS["fps"].default,
    1,
    120,
    "Frame rate for which the motion is made, 6 to 30. A higher value makes the motion between frames smaller. The "
    "network receives one less, so 7 here is the official 6. It does not set the playback speed; the node that saves "
    "the video does.",
)
AUGMENTATION = decimal(
    SETTINGS["augmentation"].default,
    0.0,
    10.0,
    "Noise added to the start image, as a standard deviation in -1..1. 0.02 is the official value. Raise it to 0.1 "
    "or 0.3 for freer motion at the cost of drifting details; 0 stays closest to the image.",
    step=0.01,
)
PLAN = socket(
    "SVD_PLAN",
    "A plan from Plan Memory and Time; sampling and decoding stay within its memory. The clip stays the same.",
)
