"""Short forms for the entries of INPUT_TYPES, and the inputs that several nodes share."""

CATEGORY = "SVD Reel"
FIT_MODES = ("crop", "pad", "stretch")
MAX_SEED = 2**64 - 1


def socket(kind: str, tooltip: str, *, advanced: bool = False) -> tuple:
    """An input that takes a link."""
    return (kind, _options(tooltip, advanced))


def whole(default: int, low: int, high: int, tooltip: str, *, step: int = 1, advanced: bool = False, **more) -> tuple:
    """A widget for a whole number in low..high."""
    return ("INT", {"default": default, "min": low, "max": high, "step": step, **more, **_options(tooltip, advanced)})


def decimal(
    default: float, low: float, high: float, tooltip: str, *, step: float = 0.1, advanced: bool = False
) -> tuple:
    """A widget for a number in low..high, not rounded to its step."""
    bounds = {"default": default, "min": low, "max": high, "step": step, "round": False}
    return ("FLOAT", bounds | _options(tooltip, advanced))


def choice(options, tooltip: str, *, default: str | None = None, advanced: bool = False) -> tuple:
    """A widget with a list of texts; the first is the default unless told otherwise."""
    options = list(options)
    return (options, {"default": default or options[0]} | _options(tooltip, advanced))


def text(default: str, tooltip: str, *, advanced: bool = False) -> tuple:
    """A widget for one line of text."""
    return ("STRING", {"default": default} | _options(tooltip, advanced))


def parse_numbers(text: str, what: str) -> tuple[float, ...]:
    """Numbers separated by commas or spaces; ValueError naming `what` for anything else."""
    words = text.replace(",", " ").split()
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    if not numbers:
        raise ValueError(f"{what} is {text!r}; write numbers separated by commas, such as 1, 2.5, 1")
    return numbers


def _options(tooltip: str, advanced: bool) -> dict:
    return {"tooltip": tooltip, "advanced": True} if advanced else {"tooltip": tooltip}


MODEL = socket("SVD_MODEL", "The model from Load SVD Model.")
IMAGE = socket(
    "IMAGE",
    "The picture to animate. Any size; transparency is laid over a plain colour. "
    "Several pictures in a batch become several clips, one after the other.",
)
WIDTH = whole(
    0,
    0,
    16384,
    "Width of the clip in pixels, a multiple of 8. 0 takes the size the model was trained on (1024 for SVD, 128 for "
    "nano), which moves best; larger needs more memory and time and moves less.",
    step=8,
)
HEIGHT = whole(
    0,
    0,
    16384,
    "Height of the clip in pixels, a multiple of 8. 0 takes the size the model was trained on (576 for SVD, 128 for "
    "nano). Portrait works with width and height swapped, a little less well.",
    step=8,
)
FRAMES = whole(
    0,
    0,
    1024,
    "Number of frames. 0 takes what the model was trained on: 14 for SVD, 25 for SVD-XT. "
    "More frames than that cost memory in proportion and drift.",
)
FIT = choice(
    FIT_MODES,
    "How a picture of another aspect fills the clip. crop: cut its sides off. pad: keep all of it on a blurred "
    "continuation, which Decode SVD Clip cuts off again. stretch: distort it.",
)
SEED = whole(
    23,
    0,
    MAX_SEED,
    "Number that the noise is drawn from. The same seed gives the same clip on every device; picture 2 of a batch uses "
    "seed + 1 and so on.",
    control_after_generate=True,
)
MOTION_BUCKET = whole(
    127,
    0,
    1023,
    "Motion bucket: how much moves. 127 is official; 20 to 60 is calm, 80 to 110 suits portraits and products, 150 "
    "to 255 is lively. Above 255 was never trained and tends to break the picture.",
)
FPS = whole(
    7,
    1,
    120,
    "Frames per second that the motion is meant for, 6 to 30. Higher makes the steps between frames smaller. The "
    "network is told one less, so 7 is the official 6. Playback speed is set where the video is saved.",
)
AUGMENTATION = decimal(
    0.02,
    0.0,
    10.0,
    "Noise on the start picture, as a standard deviation in -1..1. 0.02 is official; raising it to 0.1 or 0.3 frees "
    "the motion and lets details drift, 0 holds the picture most closely.",
    step=0.01,
)
PLAN = socket("SVD_PLAN", "From Plan Memory and Time: keep within that memory. The clip stays the same.")
