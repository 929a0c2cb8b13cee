"""Windows led by frame 0, against the plans of the public code, and what each window sees."""

import json

import pytest
import torch

from svd_core.condition import Condition
from svd_core.controls.adapters import attached
from svd_core.controls.anchored_windows import AnchoredWindows, DropFirstFrame
from svd_core.controls.poses import ControlNeXtAdapter
from svd_core.networks.controlnext import ControlNeXt
from svd_core.pipelines.video_depth import depth_noise_rows, depth_windows
from svd_core.sampling.controls import Inputs, Run
from svd_core.sampling.guidance import as_guidance
from tests.helpers.golden_rule import DATA

PLANS = json.loads((DATA / "family" / "windows.json").read_text(encoding="utf-8"))


def numbers(key: str) -> tuple[int, int, int]:
    return tuple(map(int, key.split(",")))


@pytest.mark.parametrize("key", PLANS["mimicmotion"])
def test_mimicmotion_plans_are_those_of_the_public_code(key):
    frames, size, overlap = numbers(key)
    control, expected = AnchoredWindows(size, overlap), PLANS["mimicmotion"][key]
    plan = control.plan(frames)
    assert [window.frames for window in plan] == expected["windows"]
    assert plan[0].weights == pytest.approx(expected["weights"])
    total = torch.zeros(frames)
    for window in plan:
        total.index_add_(0, torch.tensor(window.frames), torch.tensor(window.weights))
    assert total.tolist() == pytest.approx(expected["sum_per_frame"])
    noise = torch.arange(float(frames)).reshape(-1, 1, 1, 1)
    assert control.edit_noise(noise, 0).flatten().tolist() == expected["noise_index"]


@pytest.mark.parametrize("key", PLANS["controlnext"])
def test_controlnext_plans_are_those_of_the_public_code(key):
    frames, size, overlap = numbers(key)
    plan = AnchoredWindows(size, overlap, "controlnext").plan(frames)
    found = [
        {
            "frames": window.frames,
            "control_of": window.poses,
            "kept": [frame for frame, weight in zip(window.frames, window.weights, strict=True) if weight],
        }
        for window in plan
    ]
    assert found == PLANS["controlnext"][key]["windows"]


@pytest.mark.parametrize("key", PLANS["depthcrafter"])
def test_depthcrafter_plans_are_those_of_the_public_code(key):
    frames, size, overlap = numbers(key)
    rows = depth_noise_rows(frames, size, overlap)
    found = [
        {"frames": list(span), "noise_rows": own, "starts_from_previous": overlap if number else 0}
        for number, (span, own) in enumerate(zip(depth_windows(frames, size, overlap), rows, strict=True))
    ]
    assert found == PLANS["depthcrafter"][key]["windows"]


@pytest.mark.parametrize("anchor", ["mimicmotion", "controlnext"])
def test_every_estimate_is_an_average_and_each_window_sees_its_own_rows(anchor):
    frames, seen = 9, []
    drawings = torch.arange(float(frames)).reshape(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    plain = Condition(torch.zeros(1, 1, 4), torch.zeros(1, 4, 8, 8), torch.zeros(1, 6))
    condition = attached(plain, ControlNeXtAdapter(ControlNeXt(32, device="meta"), drawings))
    inputs = Inputs(condition, plain, as_guidance(torch.ones(frames)))
    control = AnchoredWindows(4, 2, anchor)

    def evaluate(x, sigma, part):
        seen.append((x[:, 0, 0, 0].tolist(), part.condition.adapters[0].drawings[:, 0, 0, 0].tolist()))
        return x

    x = torch.arange(float(frames)).reshape(-1, 1, 1, 1).expand(-1, 4, 8, 8).contiguous()
    made = control.wrap(Run(x, (1.0,), inputs, lambda: x), evaluate)(x, 1.0, inputs)
    assert torch.allclose(made, x)
    assert seen == [(window.frames, window.poses) for window in control.plan(frames)]
    assert all(rows[0] == 0 for _, rows in seen)


def test_a_clip_of_one_window_is_evaluated_at_once():
    noise = torch.zeros(4, 4, 8, 8)
    inputs = Inputs(None, None, as_guidance(1.0))

    def evaluate(x, sigma, part):
        return x

    control = AnchoredWindows(16, 6)
    assert control.wrap(Run(noise, (1.0,), inputs, lambda: noise), evaluate) is evaluate
    assert control.edit_noise(noise, 0) is noise


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, 0), "at least 2 frames .got 1.; use 16"),
        ((16, 15), "overlap by 0 to 14 .got 15."),
        ((16, 16, "controlnext"), "overlap by 0 to 15 .got 16."),
        ((16, 6, "other"), "'other' is unknown; use one of mimicmotion, controlnext"),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        AnchoredWindows(*arguments)


def test_the_first_frame_is_left_out_of_the_clip():
    frames = torch.rand(5, 4, 4, 3)
    assert torch.equal(DropFirstFrame().edit_frames(frames), frames[1:])
    assert len(DropFirstFrame().edit_frames(frames[:1])) == 1
