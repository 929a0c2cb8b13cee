"""Curves of the host's Curve Editor at the sockets of our curve nodes."""

import math

import pytest
import torch

from tests.helpers.nodes_pack import defaults, pack, part, run

NODES = pack().NODE_CLASS_MAPPINGS
config = part("svd_core.networks.config")
preview, host = part("nodes.host.preview"), part("nodes.host.comfy")


class Line:
    """A straight curve of the host from y = first to y = last."""

    def __init__(self, first: float, last: float) -> None:
        self.first, self.last = first, last

    def interp(self, x: float) -> float:
        return self.first + x * (self.last - self.first)


def made(node: str, **given):
    return NODES[node]().execute(**{**defaults(NODES[node]), **given})


def test_guidance_follows_the_curve_between_low_and_high() -> None:
    guidance, drawing = made("SVDReelGuidance", shape="constant", low=1.0, high=3.0, curve=Line(1, 0))
    scale = guidance.over(5, config.SVDConfig()).scale
    torch.testing.assert_close(scale, torch.tensor([3.0, 2.5, 2.0, 1.5, 1.0]))
    assert drawing.shape[-1] == 3


def test_buckets_and_frame_rates_follow_curves() -> None:
    chain, _ = made("SVDReelMotionAmount", bucket_from=Line(0, 1), fps_from=Line(1, 0))
    (control,) = [link[0] for link in chain.links]
    assert control.bucket[0] == (0, 0) and control.bucket[-1] == (1, 255)
    assert control.fps[0] == (0, 30) and control.fps[-1] == (1, 1)


@pytest.mark.parametrize(("steps", "denoise", "first"), [(4, 1.0, 100.0), (2, 0.5, None), (1, 1.0, 100.0)])
def test_noise_levels_fall_along_the_logarithm_of_a_curve(steps, denoise, first) -> None:
    sigmas, _ = made("SVDReelSchedule", steps=steps, denoise=denoise, sigma_max=100.0, sigma_min=0.1, curve=Line(1, 0))
    assert len(sigmas) == steps + 1 and float(sigmas[-1]) == 0
    whole = int(steps / denoise)
    wanted = [100.0 * 0.001 ** (place / max(whole - 1, 1)) for place in range(whole)][-steps:]
    torch.testing.assert_close(sigmas[:-1], torch.tensor(wanted))
    assert first is None or float(sigmas[0]) == pytest.approx(first)


@pytest.mark.parametrize(
    ("node", "given", "words"),
    [
        ("SVDReelSchedule", {"curve": Line(0, 1)}, "must fall"),
        ("SVDReelSchedule", {"curve": "x"}, "curve is no curve"),
        ("SVDReelGuidance", {"curve": Line(math.nan, 1)}, "curve has values"),
        ("SVDReelMotionAmount", {"fps_from": 3}, "fps_from is no curve"),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(node, given, words) -> None:
    with pytest.raises(ValueError, match=words):
        made(node, **given)


def test_the_picture_of_a_drawing_is_sent_to_its_node(monkeypatch) -> None:
    sent = []
    monkeypatch.setattr(host, "is_watched", lambda: True)
    monkeypatch.setattr(host, "running_node", lambda: "3:2")
    monkeypatch.setattr(host, "send", lambda event, content: sent.append((event, content)))
    run("SVDReelCameraPath", image=torch.rand(2, 32, 64, 4))
    ((event, content),) = sent
    assert (event, content["node"]) == ("svd_reel.picture", "3:2") and len(content["jpeg"]) > 1000
