"""Names of saved films: tokens as ComfyUI's editor replaces them, the real size, and no character that fails."""

import time

import pytest
import torch

from tests.helpers.nodes_pack import part, run

NOW = time.strptime("2026-03-04 05:06:07", "%Y-%m-%d %H:%M:%S")
PROMPT = {"3": {"class_type": "KSampler", "inputs": {"seed": 42, "model": ["4", 0], "name": "a/b:c"}}}
EXTRA = {"workflow": {"nodes": [{"id": 3, "title": "My sampler", "properties": {"Node name for S&R": "Sampler One"}}]}}
NAMES = [
    ("video/film", "video/film"),
    ("%date:yyyy-MM-dd%/film", "2026-03-04/film"),
    ("%date:yy-M-d hh:mm:ss%", "26-3-4 05_06_07"),
    ("film_%KSampler.seed%", "film_42"),
    ("film_%Sampler One.seed%", "film_42"),
    ("film_%My sampler.seed%", "film_42"),
    ("film_%KSampler.name%", "film_a_b_c"),
    ("%KSampler.model%", "%KSampler.model%"),
    ("%KSampler.other%_%Nobody.seed%", "%KSampler.other%_%Nobody.seed%"),
    ("%width%x%height%_%year%", "%width%x%height%_%year%"),
    ('a:b*c?"<>|d', "a_b_c____d".replace("____", "_____")),
    ("line\nbreak\x1b", "line_break_"),
    ("ü" * 200, "ü" * 115),
    ("100%", "100%"),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_tokens_are_those_of_the_editor(text, name):
    assert part("nodes.host.names").file_prefix(text, PROMPT, EXTRA, NOW) == name


@pytest.mark.parametrize("prompt", [None, [], {"3": None}, {"3": {"inputs": {"seed": {}}, "class_type": "KSampler"}}])
@pytest.mark.parametrize("extra", [None, {"workflow": None}, {"workflow": {"nodes": [None, {"properties": None}]}}])
def test_damaged_prompts_leave_the_token(prompt, extra):
    assert part("nodes.host.names").file_prefix("%KSampler.seed%", prompt, extra) == "%KSampler.seed%"


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, (48, 32)),
        ({"size": "width and height", "width": 96}, (96, 64)),
        ({"size": "640x360", "fit": "crop"}, (640, 360)),
        ({"upscale_model": type("Model", (), {"scale": 2})()}, (96, 64)),
    ],
)
def test_width_and_height_are_those_of_the_film(given, size, monkeypatch):
    seen = []

    def stop(prefix, suffix, width, height):
        seen.append((width, height))
        raise KeyboardInterrupt

    monkeypatch.setattr(part("nodes.host.film"), "film_target", stop)
    with pytest.raises(KeyboardInterrupt):
        run("SVDReelFinish", images=torch.zeros(2, 32, 48, 3), **given)
    assert seen == [size]
