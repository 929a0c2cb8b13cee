"""Window plans of the product beside those of the public code of the SVD family (tests/data/family/windows.json)."""

import math
from collections.abc import Callable, Mapping

import torch

from svd_core.controls.anchored_windows import AnchoredWindows
from svd_core.pipelines.video_depth import depth_noise_rows, depth_windows


def wrong_plans(plans: Mapping[str, Mapping[str, dict]]) -> dict[str, int]:
    """Return how many parts of each plan differ, by kind and "frames,size,overlap"."""
    wrong = {}
    for kind, cases in plans.items():
        for key, expected in cases.items():
            found = WINDOWS[kind](*map(int, key.split(",")))
            wrong[f"{kind} {key}"] = sum(not same(found[name], expected[name]) for name in found)
    return wrong


def same(found: object, expected: object) -> bool:
    """Return whether two parts of a plan are equal; weights up to rounding."""
    if isinstance(found, list) and any(isinstance(one, float) for one in found):
        return len(found) == len(expected) and all(map(math.isclose, found, expected))
    return found == expected


def _mimicmotion_windows(frames: int, size: int, overlap: int) -> dict[str, object]:
    control = AnchoredWindows(size, overlap)
    plan, total = control.plan(frames), torch.zeros(frames, dtype=torch.float64)
    for window in plan:
        total.index_add_(0, torch.tensor(window.frames), torch.tensor(window.weights, dtype=torch.float64))
    noise = control.edit_noise(torch.arange(float(frames)).reshape(-1, 1, 1, 1), 0)
    return {
        "windows": [window.frames for window in plan],
        "weights": list(plan[0].weights),
        "sum_per_frame": total.tolist(),
        "noise_index": noise.flatten().int().tolist(),
    }


def _controlnext_windows(frames: int, size: int, overlap: int) -> dict[str, object]:
    plan, count = AnchoredWindows(size, overlap, "controlnext").plan(frames), [0] * frames
    windows = []
    for window in plan:
        kept = [frame for frame, weight in zip(window.frames, window.weights, strict=True) if weight]
        windows.append({"frames": window.frames, "control_of": window.poses, "kept": kept})
        for frame in kept:
            count[frame] += 1
    return {"windows": windows, "count_per_frame": count}


def _depthcrafter_windows(frames: int, size: int, overlap: int) -> dict[str, object]:
    rows = depth_noise_rows(frames, size, overlap)
    spans = depth_windows(frames, size, overlap)
    windows = [
        {"frames": list(span), "noise_rows": own, "starts_from_previous": overlap if number else 0}
        for number, (span, own) in enumerate(zip(spans, rows, strict=True))
    ]
    return {"windows": windows}


WINDOWS: dict[str, Callable[[int, int, int], dict[str, object]]] = {
    "mimicmotion": _mimicmotion_windows,
    "controlnext": _controlnext_windows,
    "depthcrafter": _depthcrafter_windows,
}
