"""Previews and players of the nodes: what is sent, how often, and only where a browser waits."""

import base64
import io
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tests.helpers.nodes_pack import part, run

host, preview = part("nodes.host.comfy"), part("nodes.host.preview")


@pytest.fixture
def sent(monkeypatch) -> list[tuple[str, dict]]:
    """Events that a browser receives."""
    events: list[tuple[str, dict]] = []
    monkeypatch.setattr(host, "is_watched", lambda: True)
    monkeypatch.setattr(host, "running_node", lambda: "3:2")
    monkeypatch.setattr(host, "send", lambda event, content: events.append((event, content)))
    return events


def test_a_preview_holds_all_frames_at_256_pixels_or_more(sent) -> None:
    preview.ClipPreview(None, 7)(1, 10, torch.randn(25, 4, 9, 16))
    (event, content), *_ = sent
    assert event == "svd_reel.preview" and content["node"] == "3:2" and content["fps"] == 7
    assert (content["step"], content["steps"], content["count"], len(content["frames"])) == (1, 10, 25, 25)
    picture = Image.open(io.BytesIO(base64.b64decode(content["frames"][0])))
    assert max(picture.size) >= 256 and picture.size[0] / picture.size[1] == pytest.approx(16 / 9, rel=0.02)


def test_long_clips_are_thinned_and_keep_their_duration(sent) -> None:
    preview.ClipPreview(None, 8)(1, 2, torch.randn(100, 4, 4, 4))
    content = sent[0][1]
    assert len(content["frames"]) <= 48
    assert len(content["frames"]) / content["fps"] == pytest.approx(100 / 8, rel=0.03)


def test_previews_take_a_fiftieth_of_the_time(sent, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(preview.time, "monotonic", lambda: clock[0])

    def encode(frame):
        clock[0] += 0.001
        return ""

    monkeypatch.setattr(preview, "encoded", encode)
    show = preview.ClipPreview(None)
    monkeypatch.setattr(preview, "pictures", lambda frames: frames)
    for step in range(1, 1001):
        clock[0] += 0.05
        show(step, 1000, torch.zeros(10, 4, 1, 1))
    spent = 0.01 * len(sent)
    assert 0.01 * clock[0] < spent < 0.02 * clock[0]


def test_nothing_is_made_where_nobody_watches(monkeypatch) -> None:
    monkeypatch.setattr(preview, "encoded", lambda frame: pytest.fail("a frame was encoded"))
    preview.ClipPreview(None)(1, 10, torch.randn(5, 4, 4, 4))
    assert preview.played(torch.rand(5, 8, 8, 3), 7) == {}


def test_the_finished_clip_is_a_small_file_that_browsers_play(sent) -> None:
    entry = preview.played(torch.rand(4, 900, 1601, 3), 7)["svd_clip"][0]
    path = host.temporary_folder() / entry["subfolder"] / entry["filename"]
    from svd_core.video import open_clip

    clip = open_clip(path)
    assert len(clip) == 4 and clip.fps == 7 and clip[0].shape == (432, 768, 3)
    assert (entry["width"], entry["height"], entry["frames"]) == (1601, 900, 4)
    path.unlink()


def test_events_name_the_workflow_that_runs(monkeypatch) -> None:
    sent = []
    running = [
        (0, "first", {}, {"extra_pnginfo": {"workflow": {"id": "a"}}}, []),
        (1, "second", {}, {"extra_pnginfo": {"workflow": {"id": "b"}}}, [], {}),
        (2, "by a program", {}, {}, []),
    ]
    queue = SimpleNamespace(get_current_queue_volatile=lambda: (running, []))
    server = SimpleNamespace(client_id="browser", prompt_queue=queue, send_sync=lambda *event: sent.append(event))
    monkeypatch.setattr(host, "PRESENT", True)
    monkeypatch.setattr(host, "PromptServer", SimpleNamespace(instance=server), raising=False)
    for prompt, workflow in (("first", "a"), ("second", "b"), ("by a program", None)):
        context = SimpleNamespace(prompt_id=prompt)
        monkeypatch.setattr(host, "get_executing_context", lambda context=context: context, raising=False)
        host.send("svd_reel.preview", {"node": "3"})
        assert sent.pop() == ("svd_reel.preview", {"node": "3", "workflow": workflow}, "browser")


def test_results_are_plain_without_a_host() -> None:
    assert preview.shown((1, 2), {"svd_taken": ["64x64"]}) == (1, 2)


def test_painted_and_boxed_objects_are_cut_where_they_are(monkeypatch) -> None:
    brush = part("nodes.brush")
    image = torch.zeros(1, 40, 80, 3)
    mask = brush.box_masks({"x": 8, "y": 4, "width": 16, "height": 10}, image)
    assert float(mask.sum()) == 160 and bool(mask[0, 4, 8]) and bool(mask[0, 13, 23])
    with pytest.raises(ValueError, match="x, y, width and height"):
        brush.box_masks({"left": 1}, image)
    (model, *_) = run("SVDReelLoadModel", model_name="nano (embedded)")
    latent = run("SVDReelCondition", model=model, image=image, frames=2)[2]
    with pytest.raises(ValueError, match="paint one on the picture"):
        run("SVDReelCutAndDrag", model=model, image=image, latent=latent)
    with pytest.raises(ValueError, match="latent is not connected"):
        run("SVDReelMotionMask", model=model, image=image)
