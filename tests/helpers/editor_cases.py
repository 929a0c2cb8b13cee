"""Texts that the drawn widgets edit, with what Python reads out of them; web/js/logic must read the same.

`python -m tests.helpers.editor_cases` writes tests/data/editor_cases.json, which the tests of both sides compare with.
"""

import json
from pathlib import Path

from svd_core.controls.camera.moves import move_names, parse_path
from svd_core.controls.camera.poses import poses_of
from svd_core.controls.drag import parse_drags
from svd_core.sampling.guidance import GUIDANCE_SHAPES, custom_guidance, guidance_curve
from svd_core.storyboard.panels import parse_text

from .nodes_pack import part

PATH = Path(__file__).resolve().parents[1] / "data" / "editor_cases.json"
FRAMES = 9
CAMERA = [
    *move_names(),
    "pan right 0.15, zoom in 1.2",
    "pan right 0.15, zoom in 1.2 ease then hold 2 then tilt up 10deg for 2",
    "push in 20% and roll clockwise 5 ease-in\nshake 0.02",
    "truck left -> pedestal up ease-out",
    "through 0 0; 0.1 0; 0.2 0.1",
    "through 0 0; 0.1 0 1.2 3; 0.2 0.05 1 -4 ease for 2 then zoom in",
    "through 0.1 0.1; 0.2 0.1 1.5",
    "through 0 0; 0.1 0 1.2 at 40%; 0.1 0 1.2 5 at 0.6; 0.2 0.1",
    "through 0 0 at 20%; 0.1 0; 0.3 -0.1 1.1; 0.2 0 at 90% ease",
    "hold 3 then orbit right 20, dolly in 0.1",
]
CAMERA_REFUSED = [
    "",
    "fly",
    "pan",
    "pan up",
    "pan right 2",
    "zoom in 0.5",
    "zoom in 10deg",
    "hold 1.5",
    "pan right nan",
    "pan right 0.1 quickly",
    "through 0 0",
    "through 0 0; 0 0 0",
    "through 0 0; 1 1 at 40%; 0 0 at 30%",
    "through 0 0; 1 1 at 140%",
    "hold 2, pan right",
    "pan right for 0",
]
DRAGS = [
    ("0.5,0.5; 0.7,0.5", "", "", "linear"),
    ("0.2,0.8; 0.4,0.4; 0.9,0.4", "1.3", "15", "ease"),
    ("0.1 0.1; 0.2 0.3 | 0.8,0.8; 0.8,0.6; 0.8,0.8", "1.2, 1", "10, -10, 0", "ease-out"),
    ("0.5,0.5; 0.5,0.5", "2", "", "ease-in"),
    ("-0.5,0; 1.5,1", "", "90", "linear"),
]
DRAGS_REFUSED = ["0.5,0.5; 3,0", "0.5; 0.6,0.5", "0.1,0.2,0.3; 1,1", "a,b; 0,0"]
CURVES = ["0:60, 0.5:180, 1:127", "60, 180, 127", "0.2:12 0.8:6", "127", "0:1,1:2"]
CURVES_REFUSED = ["0:60, 180", "x", "0.5:", ":3"]
TABLES = [
    "seconds,move,transition\n2,zoom in 1.1,cut\n2,pan right 0.1,cross-fade",
    'image;seconds;title\n1;2.5;"one; two"\nb.png;1;"said ""go"""\n',
    "picture\tcamera\n2\tpan left\n\n1\t",
    '[{"image": "a.png", "seconds": 2}, {"image": "b.png", "move": "roll cw 5", "seed": 3}]',
    "",
]


def cases() -> dict:
    """Return all cases with what Python reads."""
    return {
        "frames": FRAMES,
        "camera": [camera(text) for text in CAMERA],
        "camera_refused": CAMERA_REFUSED,
        "drags": [drag(*case) for case in DRAGS],
        "drags_refused": DRAGS_REFUSED,
        "curves": [curve(text) for text in CURVES],
        "curves_refused": CURVES_REFUSED,
        "guidance": {name: rounded(guidance_curve(name, 1.0, 3.0, 101)) for name in GUIDANCE_SHAPES},
        "tables": [table(text) for text in TABLES],
    }


def camera(text: str) -> dict:
    """Return the parameters of every frame, and where the last one shows five points of the picture."""
    rows = parse_path(text).table(FRAMES)
    plane = poses_of(rows[-1:]).homographies(1000, 600)[0]
    shown = []
    for x, y in ((0, 0), (0.1, 0), (0, 0.1), (-0.2, 0.1), (0.3, -0.2)):
        u, v, w = (plane @ plane.new_tensor([499.5 + 1000 * x, 299.5 + 1000 * y, 1])).tolist()
        shown.append([(u / w - 499.5) / 1000, (v / w - 299.5) / 1000])
    return {"text": text, "table": rounded(rows), "shown": [[round(value, 9) for value in point] for point in shown]}


def drag(points: str, scales: str, turns: str, easing: str) -> dict:
    """Return shift, scale and turn of every frame for every object."""
    paths = parse_drags(points, scales, turns, easing)
    places = [rounded(path.places(FRAMES)) for path in paths]
    return {"points": points, "scales": scales, "turns": turns, "easing": easing, "places": places}


def curve(text: str) -> dict:
    """Return the points and the values of every frame."""
    points = part("svd_core.controls.amount").parse_points(text, "the curve")
    return {"text": text, "points": points, "values": rounded(custom_guidance(points, FRAMES))}


def table(text: str) -> dict:
    """Return the panels as text by column."""
    columns = ("image", "seconds", "move", "bucket", "seed", "transition", "fade", "title")
    panels = [{name: getattr(panel, name) for name in columns} for panel in parse_text(text)]
    return {"text": text, "rows": [{name: value for name, value in row.items() if value} for row in panels]}


def rounded(values) -> list:
    """Return a tensor as nested lists with nine decimals."""
    return [[round(x, 9) for x in row] if isinstance(row, list) else round(row, 9) for row in values.double().tolist()]


if __name__ == "__main__":
    PATH.write_text(json.dumps(cases(), indent=1) + "\n", encoding="utf-8", newline="\n")
