"""Compare Clips: two files of one duration for the browser, and how far the clips differ."""

import av
import pytest
import torch

from tests.helpers.nodes_pack import part, run

compare, host, preview = (part(f"nodes.{name}") for name in ("compare", "host.comfy", "host.preview"))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (torch.full((3, 32, 32, 3), 0.25), "3 frames, all equal"),
        (torch.full((5, 32, 32, 3), 0.35), "4 frames, PSNR 20.0 dB"),  # an error of 0.1 is 20 dB
        (torch.full((4, 32, 48, 3), 0.25), "32x32 and 48x32"),
    ],
)
def test_the_difference_is_measured_over_the_frames_that_both_have(second, words) -> None:
    assert compare.difference(torch.full((4, 32, 32, 3), 0.25), second) == words


def test_a_shorter_clip_holds_its_last_frame(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(host, "is_watched", lambda: True)
    monkeypatch.setattr(host, "temporary_folder", lambda: tmp_path)
    levels = torch.tensor([0.2, 0.8])[:, None, None, None]
    (short, long) = preview.compared((levels.expand(2, 32, 32, 3), torch.rand(5, 32, 48, 3)), 7.0)["svd_compared"]
    assert (short["frames"], long["frames"], short["width"], long["width"]) == (5, 5, 32, 48)
    with av.open(str(tmp_path / short["subfolder"] / short["filename"])) as film:
        means = [frame.to_ndarray(format="rgb24").mean() / 255 for frame in film.decode(video=0)]
    assert means == pytest.approx([0.2, 0.8, 0.8, 0.8, 0.8], abs=0.02)


def test_nothing_is_written_where_nobody_watches() -> None:
    clip = torch.rand(2, 16, 16, 3)
    assert preview.compared((clip, clip), 7.0) == {}
    assert run("SVDReelCompare", first=clip, second=clip) == ()
