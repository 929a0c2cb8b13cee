"""The report as a node and on the command line: the numbers of the Python call, and one sentence for invalid input."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from svd_core import load_model
from svd_core.cli.main import main
from svd_core.report import measure, plot
from svd_core.video import open_clip, read_clip, write_clip
from tests.helpers.checkpoint_files import TINY, tiny_tensors
from tests.helpers.nodes_pack import part, run
from tests.helpers.report_clips import moving


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """Five frames of 64x48 that pan, in the 256 steps that files hold."""
    return (moving(48, 64, pan=(1.0, 0.5), frames=5) * 255).round() / 255


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with random weights."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_file(dict(tiny_tensors()), path, metadata=TINY)
    return str(path)


@pytest.fixture
def folder(clip: torch.Tensor, tmp_path: Path) -> str:
    """The clip as PNG files, which lose nothing."""
    return str(write_clip(clip, tmp_path / "clip", fps=7))


def command(*arguments: object) -> int:
    """Exit code of the command line."""
    try:
        return main([str(argument) for argument in ("report", *arguments)])
    except SystemExit as stop:  # argparse
        return stop.code


def test_the_node_gives_what_the_python_call_gives(clip: torch.Tensor):
    mask = torch.zeros(1, 48, 64)
    mask[:, :24] = 1
    text, numbers, page = run("SVDReelReport", frames=clip, image=clip[:1], mask=mask, seams="2, 4")
    report = measure(clip, image=clip[:1], mask=mask, seams=[2, 4])
    assert text == report.text() and numbers == report.to_json()
    assert torch.equal(page, plot(report))


def test_the_node_needs_nothing_but_frames_and_takes_transparent_ones(clip: torch.Tensor):
    plain = run("SVDReelReport", frames=clip)
    assert plain[0] == measure(clip).text()
    assert run("SVDReelReport", frames=torch.cat([clip, torch.ones(5, 48, 64, 1)], dim=-1))[1] == plain[1]


def test_the_node_uses_the_models_own_image_encoder(clip: torch.Tensor, checkpoint: str, monkeypatch):
    monkeypatch.setattr(part("nodes.host.comfy"), "model_files", lambda name: ["tiny.safetensors"])
    monkeypatch.setattr(part("nodes.host.comfy"), "model_path", lambda *names: checkpoint)
    model, tower, _ = run("SVDReelLoadModel", model_name="tiny.safetensors")
    by_model = json.loads(run("SVDReelReport", frames=clip, model=model)[1])["similarity"]
    by_tower = json.loads(run("SVDReelReport", frames=clip, clip_vision=tower)[1])["similarity"]
    core = measure(clip, model=load_model(checkpoint)).similarity
    assert by_model == by_tower == pytest.approx(core, abs=1e-5)
    assert by_model[0] == pytest.approx(1) and min(by_model) < 0.9999


def test_the_node_takes_another_packs_image_encoder(clip: torch.Tensor, monkeypatch):
    def embedding(tower: object, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean(dim=(2, 3)) + tower.bias

    monkeypatch.setattr(part("nodes.host.comfy"), "clip_embedding", embedding)
    found = json.loads(run("SVDReelReport", frames=clip, clip_vision=SimpleNamespace(bias=3.0))[1])["similarity"]
    assert len(found) == 5 and found[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("seams", "words"), [("two", "seams must be numbers separated by commas"), ("9", "got 9 of 5 frames")]
)
def test_the_node_answers_bad_seams_with_a_sentence(clip: torch.Tensor, seams: str, words: str):
    with pytest.raises(ValueError, match=words):
        run("SVDReelReport", frames=clip, seams=seams)


def test_the_command_prints_the_report_and_writes_what_is_asked(folder, clip, checkpoint, tmp_path: Path, capsys):
    Image.fromarray((clip[0].numpy() * 255).round().astype("uint8")).save(tmp_path / "start.png")
    Image.new("L", (64, 48), 0).save(tmp_path / "mask.png")
    given = ("--image", tmp_path / "start.png", "--mask", tmp_path / "mask.png", "--model", checkpoint, "--seams", 2, 4)
    files = ("--json", tmp_path / "report.json", "--page", tmp_path / "page.png")
    assert command(folder, *given, *files) == 0
    report = measure(clip, image=clip[:1], mask=torch.zeros(48, 64), model=load_model(checkpoint), seams=[2, 4])
    assert capsys.readouterr().out.strip() == report.text()
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(report.to_json())
    with Image.open(tmp_path / "page.png") as page:
        assert page.size == tuple(plot(report).shape[2:0:-1])


def test_the_command_reads_an_encoded_clip(clip: torch.Tensor, tmp_path: Path, capsys):
    path = write_clip(clip, tmp_path / "clip.webp", fps=7, quality=100)
    assert command(path) == 0
    assert "1.0" in capsys.readouterr().out.split("picture moves")[1].split("px")[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent.mp4",), "absent.mp4 does not exist"),
        (("{folder}", "--image", "absent.png"), "absent.png does not exist"),
        (("{folder}", "--seams", "7"), "got 7 of 5 frames"),
        (("{folder}", "--page", "page.pdf"), "--page must be a picture (got page.pdf); end its name in .png"),
        (("{folder}", "--json", "absent/report.json"), "folder absent of --json does not exist"),
        (("{folder}", "--model", "absent.safetensors"), "absent.safetensors"),
        ((), "CLIP"),
    ],
)
def test_the_command_answers_bad_input_with_one_sentence(folder: str, arguments: tuple, words: str, capsys):
    assert command(*(argument.replace("{folder}", folder) for argument in arguments)) == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out
    assert len(said.err.strip().splitlines()) == 1 and "Traceback" not in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--json", "clip.mp4"), "--json clip.mp4 would overwrite the file that CLIP reads"),
        (("--image", "i.png", "--page", "i.png"), "--page i.png would overwrite the file that --image reads"),
        (("--mask", "i.png", "--page", "./i.png"), "--page i.png would overwrite the file that --mask reads"),
        (("--json", "r.png", "--page", "r.png"), "--page r.png would overwrite --json"),
        (("--model", "m.safetensors", "--json", "m.safetensors"), "would overwrite the file that --model reads"),
        (("--json", "frames"), "--json frames is a folder"),
    ],
)
def test_the_command_writes_over_nothing_that_it_reads(clip, tmp_path, monkeypatch, arguments, words, capsys):
    monkeypatch.chdir(tmp_path)
    write_clip(clip, "clip.mp4", fps=7)
    Image.new("L", (64, 48), 0).save("i.png")
    Path("m.safetensors").write_bytes(b"a model")
    Path("frames").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert command("clip.mp4", *arguments) == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out and len(said.err.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_frame_of_the_clip_is_no_place_for_the_page(folder: str, capsys):
    first = Path(folder, "frame_00000.png")
    before = first.read_bytes()
    assert command(folder, "--page", first) == 2
    assert "would overwrite the file that CLIP" in capsys.readouterr().err and first.read_bytes() == before


def test_a_clip_is_measured_in_the_memory_of_a_few_frames(clip: torch.Tensor, tmp_path: Path):
    """The numbers of a sequence that is read frame by frame are those of the whole tensor, to the last bit."""
    path = write_clip(clip, tmp_path / "clip.mp4", fps=7)
    whole, _, _ = read_clip(path)
    with open_clip(path) as opened:
        streamed = measure(opened, image=clip[:1], seams=[2]).to_json()
    assert streamed == measure(whole, image=clip[:1], seams=[2]).to_json()
    with pytest.raises(ValueError, match="at least 16x16"):
        measure([torch.zeros(8, 8, 3)])
