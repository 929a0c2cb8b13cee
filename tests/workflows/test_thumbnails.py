"""The pictures of the template browser: no two alike."""

from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
SIDE, LEAST = 64, 20  # pixels, levels of 255


def test_no_two_pictures_are_alike() -> None:
    small = {}
    for path in sorted(FOLDER.glob("*.jpg")):
        with Image.open(path) as picture:
            small[path.stem] = np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), np.int16)
    apart = {names: np.abs(small[names[0]] - small[names[1]]).mean() for names in combinations(small, 2)}
    assert {names: round(float(mean), 1) for names, mean in apart.items() if mean <= LEAST} == {}
