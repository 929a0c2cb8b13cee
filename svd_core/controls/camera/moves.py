"""Camera moves by name, and the text format of paths: "pan right 0.15, zoom in 1.2 then hold 4".

A move is a name, a direction, an amount, an easing, and "for" with a share of the time. Everything after the direction
is optional. Moves joined by a comma or "and" run at once, "then" starts the next ones after them.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from ...files import printable
from .path import EASINGS, CameraPath, Chain, Hold, Move, Part, Shake, Together, path_through
from .poses import FOCAL, angle_of


@dataclass(frozen=True)
class Kind:
    """A kind of move.

    directions: parameter and sign by direction; none for moves without a direction. usual, low, high: default, least
    and greatest amount, in `unit`. convert: from an amount to the parameter.
    """

    directions: dict[str, tuple[str, int]]
    usual: float
    low: float
    high: float
    unit: str
    convert: Callable[[float], float]


ALIASES = {
    "clockwise": "cw",
    "counterclockwise": "ccw",
    "anticlockwise": "ccw",
    "hand-held": "handheld",
    "shake": "handheld",
    "still": "static",
    "push": "dolly",
    "track": "truck",
}
SIDES = {"left": -1, "right": 1}
HEIGHTS = {"up": 1, "down": -1}
DEPTHS = {"in": 1, "out": -1}


def _along(name: str, signs: dict[str, int]) -> dict[str, tuple[str, int]]:
    """Return directions that all move the parameter `name`."""
    return {direction: (name, sign) for direction, sign in signs.items()}


def _around(name: str) -> dict[str, tuple[str, int]]:
    """Return left and right for the parameter `name`_x, up and down for `name`_y."""
    return _along(f"{name}_x", SIDES) | _along(f"{name}_y", HEIGHTS)


MOVES = {
    "pan": Kind(_along("pan", SIDES), 0.15, 0, 1, "picture widths", angle_of),
    "tilt": Kind(_along("tilt", HEIGHTS), 0.1, 0, 1, "picture widths", angle_of),
    "zoom": Kind(_along("zoom", DEPTHS), 1.25, 1, 4, "times", math.log),
    "roll": Kind(_along("roll", {"cw": 1, "ccw": -1}), 8, 0, 180, "degrees", math.radians),
    "dolly": Kind(_along("z", DEPTHS), 0.2, 0, 0.9, "of the centre's depth", float),
    "truck": Kind(_along("x", SIDES), 0.15, 0, 1, "of the centre's depth", float),
    "pedestal": Kind(_along("y", HEIGHTS), 0.1, 0, 1, "of the centre's depth", float),
    "orbit": Kind(_around("orbit"), 12, 0, 60, "degrees", math.radians),
    "arc": Kind(_around("arc"), 16, 0, 60, "degrees", math.radians),
    "handheld": Kind({}, 0.01, 0, 0.1, "picture widths", float),
    "static": Kind({}, 0, 0, 0, "", float),
}
"""Moves of the camera by name. The content moves the other way: pan right moves it left, tilt up and pedestal up move
it down, roll cw turns it counterclockwise. Pan and tilt are measured by how far the middle of the picture moves, truck
and pedestal by how far the camera moves.
"""


def move_names() -> list[str]:
    """Return every move with each of its directions, such as "pan left"."""
    return [f"{name} {side}".strip() for name, kind in MOVES.items() for side in (kind.directions or ("",))]


def camera_move(
    name: str, amount: float | None = None, *, easing: str = "linear", share: float = 1.0, unit: str = ""
) -> CameraPath:
    """Return the path of one move such as "pan right" (see `move_names`), over the whole clip.

    amount: in the unit of the move, or in `unit` "deg" or "%"; None takes the usual one. share: time relative to the
    other moves of a chain. Raises ValueError for unknown names and amounts out of range.
    """
    name, _, direction = " ".join(ALIASES.get(word, word) for word in name.lower().split()).partition(" ")
    if name not in MOVES:
        raise ValueError(
            f"the camera move {printable(name)!r} is unknown; use one of {', '.join(MOVES)}, hold, through"
        )
    kind = MOVES[name]
    if direction not in (kind.directions or ("",)):
        wanted = " or ".join(f"{name} {side}".strip() for side in (kind.directions or ("",)))
        lack = f"has no direction {printable(direction)!r}" if direction else "needs a direction"
        raise ValueError(f"the camera move {name} {lack}; write {wanted}")
    if easing not in EASINGS:
        raise ValueError(f"the easing {printable(easing)!r} is unknown; use one of {', '.join(EASINGS)}")
    if not (math.isfinite(share) and share > 0):
        raise ValueError(f"the time share of {name} must be above 0 (got {share:g}); remove it, or write for 2")
    amount = kind.usual if amount is None else _in_unit(name, kind, amount, unit)
    if not kind.low <= amount <= kind.high:
        limits = f"{kind.low:g} to {kind.high:g} {kind.unit}".strip()
        raise ValueError(f"{name} must be {limits} (got {amount:g}); use about {kind.usual:g}")
    text = " ".join(word for word in (name, direction, f"{amount:.4g}" if name != "static" else "") if word)
    text += f" {easing}" * (easing != "linear") + f" for {share:g}" * (share != 1)
    if name == "handheld":
        return CameraPath(Shake(amount, share, text))
    parameter, sign = kind.directions.get(direction, ("pan", 0))
    return CameraPath(Move(((parameter, sign * kind.convert(amount)),), easing, share, text))


def _in_unit(name: str, kind: Kind, amount: float, unit: str) -> float:
    """Return an amount given in `unit` ("deg", "%" or "") in the unit of its move."""
    if unit == "%":
        return amount / 100
    if unit == "deg" and kind.convert is angle_of:
        return FOCAL * math.tan(math.radians(min(amount, 89)))
    if unit == "deg" and kind.unit != "degrees":
        raise ValueError(f"{name} is measured in {kind.unit} (got {amount:g} degrees); write about {kind.usual:g}")
    return amount


def parse_path(text: str) -> CameraPath:
    """Return the path that `text` describes, such as "pan right 0.15, zoom in 1.2 ease then hold 4 then tilt up".

    "hold 4" stands still for four frames. "through 0 0; 0.1 0; 0.2 0.05" looks at points (x and y in picture widths,
    then zoom and roll), evenly spaced in time or "at 40%" of it. Raises ValueError with the words that were not
    understood.
    """
    stretches = [stretch.strip() for stretch in re.split(r"\bthen\b|->|\n", text) if stretch.strip()]
    if not stretches:
        raise ValueError("the camera path is empty; write moves such as pan right 0.15, zoom in 1.2")
    parts = []
    for stretch in stretches:
        moves = [_parse_move(move.strip()) for move in re.split(r",|\+|\band\b", stretch) if move.strip()]
        if not moves or (len(moves) > 1 and any(isinstance(move, Hold) for move in moves)):
            raise ValueError(
                f"{printable(stretch)!r} in the camera path is not a move; write hold by itself, between two then"
            )
        parts.append(moves[0] if len(moves) == 1 else Together(tuple(moves)))
    return CameraPath(parts[0] if len(parts) == 1 and not isinstance(parts[0], Hold) else Chain(tuple(parts)))


def _parse_move(text: str) -> Part:
    """Return one move, hold or path through points."""
    words = text.lower().replace("°", "deg").split()
    name = ALIASES.get(words[0], words[0])
    share, easing = 1.0, "linear"
    if "for" in words:
        place = words.index("for")
        share = _number(" ".join(words[place + 1 :]), text)
        words = words[:place]
    for word in [word for word in words if word in EASINGS]:
        easing = word
        words.remove(word)
    if not words:
        raise ValueError(f"{printable(text)!r} in the camera path has no move; write one first, such as pan right 0.15")
    if name == "hold":
        frames = _number(" ".join(words[1:]), text)
        if frames != int(frames) or frames < 0:
            raise ValueError(
                f"{printable(text)!r} in the camera path needs a whole number of frames; write it as hold 4"
            )
        return Hold(int(frames), f"hold {int(frames)}")
    if name == "through":
        rows = [_parse_point(point, text) for point in " ".join(words[1:]).split(";") if point.strip()]
        points, times = [point for point, _ in rows], [time for _, time in rows]
        return path_through(points, easing=easing, share=share, text=text, times=times).part
    direction = " ".join(words[1:2]) if len(words) > 1 and words[1][:1].isalpha() else ""
    rest = words[2:] if direction else words[1:]
    amount, unit = _amount(rest, text) if rest else (None, "")
    return camera_move(f"{words[0]} {direction}", amount, easing=easing, share=share, unit=unit).part


def _parse_point(point: str, text: str) -> tuple[list[float], float | None]:
    """Return the numbers of one point of "through", and its time in 0..1 or None: "0.1 0 1.2 at 40%"."""
    place, at, time = point.partition(" at ")
    share = None
    if at:
        share = _number(time.strip().removesuffix("%").strip(), text) / (100 if time.strip().endswith("%") else 1)
    return [_number(word, text) for word in place.split()], share


def _amount(words: list[str], text: str) -> tuple[float, str]:
    """Return the amount and unit ("deg", "%" or "") in the last words of the move `text`."""
    match = re.fullmatch(r"([\d.]+(?:e-?\d+)?)\s*(deg|degrees|%|x|times)?", " ".join(words))
    if match is None:
        raise ValueError(
            f"{printable(' '.join(words))!r} in {printable(text)!r} is not understood; write an amount such as 0.15, "
            f"10deg or 20%, an easing ({', '.join(EASINGS)}), or for 2"
        )
    unit = {"degrees": "deg", "x": "", "times": ""}.get(match[2] or "", match[2] or "")
    return _number(match[1], text), unit


def _number(word: str, text: str) -> float:
    """Return the number in one word of the move `text`."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{printable(word)!r} in {printable(text)!r} of the camera path is not a number; write one, such as 0.15"
        )
    return number
