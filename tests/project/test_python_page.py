"""docs/python.md: every script runs as it is written, with small and short clips."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svd_core import api
from tests.project.test_project import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^## (.+?)$(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NUMBERED = [(name, text) for name, text in SCRIPTS if name[0].isdigit()]


def test_the_page_has_ten_scripts() -> None:
    assert [name.split(".")[0] for name, _ in NUMBERED] == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("text", [text for _, text in NUMBERED], ids=[name for name, _ in NUMBERED])
def test_a_script_of_the_page_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def short(model, image, settings, steering, **more):
        clip = steered(model, image, replace(settings, frames=3, steps=1, width=64, height=64), steering, **more)
        made.append(clip)
        return clip

    steered = api.steered_clip
    monkeypatch.setattr(api, "steered_clip", short)
    monkeypatch.chdir(tmp_path)
    photograph = Image.open(ROOT / "svd_core" / "assets" / "demo.png").resize((96, 64))
    (tmp_path / "photos").mkdir()
    for name in ("photo.png", "end.png", "photos/a.png", "photos/b.png"):
        photograph.save(tmp_path / name)
    mask = np.zeros((64, 96), dtype=np.uint8)
    mask[20:40, 20:50] = 255
    for name in ("mask.png", "depth.png"):
        Image.fromarray(mask).save(tmp_path / name)
    exec(compile(text, "docs/python.md", "exec"), {"__name__": "script"})  # noqa: S102
    assert made and all(clip.shape[1:] == (64, 64, 3) and clip.std() > 0 for clip in made)
