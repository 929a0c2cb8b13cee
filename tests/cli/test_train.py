"""`python -m svd_core train` and the files it leaves, on a random model of a few channels."""

import errno
import json
import re
import signal
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import svd_core as svd
from svd_core.cli.main import main
from svd_core.lora import apply_loras, load_lora
from svd_core.training import Trainer, job
from svd_core.training.data.cutting import ClipPlan
from svd_core.training.export import save_checkpoint
from svd_core.training.job import clip_plan, default_settings, noise_mean
from svd_core.training.memory_estimate import training_memory
from svd_core.training.validation import Validation
from svd_core.video import read_clip
from tests.helpers.checkpoint_files import FEW_LAYERS, FEW_LAYERS_METADATA, TINY, small_tensors, tiny_tensors
from tests.helpers.training_films import film, save_pictures, texture

SMALL = ["--width", "32", "--height", "32", "--batch", "1", "--rank", "2", "--warmup", "1", "--validate-every", "0"]


known_memory = cache(training_memory)


@pytest.fixture(autouse=True)
def memory_estimated_once(monkeypatch):
    """The estimate is a dry run that takes longer than these trainings, and does not depend on their steps."""

    def estimate(config, settings, *size):
        return known_memory(config, replace(settings, steps=1, rate=1e-4, validate_every=0), *size)

    monkeypatch.setattr(job, "training_memory", estimate)
    monkeypatch.setattr(job, "VALIDATION_STEPS", 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_file(dict(small_tensors(FEW_LAYERS)), path, metadata=FEW_LAYERS_METADATA)
    return str(path)


@pytest.fixture
def data(tmp_path):
    save_pictures(tmp_path / "data" / "film", film(9))
    return str(tmp_path / "data")


def train(model, data, output, *more, steps=2):
    return main(["train", data, "--model", model, "--output", str(output), "--steps", str(steps), *SMALL, *more])


def test_a_lora_comes_out_with_notice_log_and_plot(model, data, tmp_path, capsys):
    output = tmp_path / "look.safetensors"
    assert train(model, data, output, "--trigger", "use it well") == 0
    assert capsys.readouterr().out.strip() == str(output)
    lora = load_lora(output)
    assert lora.ranks == (2,) and lora.metadata["svd.lora.trigger"] == "use it well"
    assert json.loads(lora.metadata["svd.lora.settings"])["targets"] == "both"
    assert (tmp_path / "look.NOTICE.txt").exists()
    names = {path.name for path in (tmp_path / "look.run").iterdir()}
    assert {"state.safetensors", "log.csv", "loss.png", "clips"} <= names
    plain = svd.load_model(model)
    changed = apply_loras(plain, [(lora, 1.0, 1.0)])
    x, condition = (
        torch.randn(4, 4, 4, 4),
        svd.Condition(torch.ones(1, 1, 8), torch.ones(1, 4, 4, 4), torch.ones(1, 24)),
    )
    size = plain.config.unet
    condition = svd.Condition(
        torch.ones(1, 1, size.context_channels), torch.ones(1, 4, 4, 4), torch.ones(1, size.vector_channels)
    )
    assert not torch.equal(plain.denoise(x, 5.0, condition), changed.denoise(x, 5.0, condition))


@pytest.mark.parametrize("method", ["full", "temporal"])
def test_fine_tuning_gives_a_whole_checkpoint(model, data, tmp_path, method):
    output = tmp_path / "tuned.safetensors"
    assert train(model, data, output, "--method", method, "--rate", "0.01") == 0
    before, after = svd.load_model(model), svd.load_model(output)
    assert after.config == before.config
    old, new = before.unet.state_dict(), after.unet.state_dict()
    moved = {name for name in old if not torch.allclose(old[name], new[name], atol=1e-3)}
    temporal = {name for name in old if any(part in name for part in ("time_stack", "time_mixer", "time_pos_embed"))}
    assert moved and (method == "full" or moved <= temporal) and (method == "temporal" or not moved <= temporal)
    for part in ("vae", "image_encoder"):
        ours, theirs = getattr(after, part).state_dict(), getattr(before, part).state_dict()
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)
    assert "Fine-tuned from" in (tmp_path / "tuned.NOTICE.txt").read_text(encoding="utf-8")
    with safe_open(str(output), "pt") as file:
        told = file.metadata()
    assert json.loads(told["settings"])["steps"] == 2 and json.loads(told["clips"])["width"] == 32
    assert "trigger" not in told


def test_validation_leaves_clips_numbers_and_a_sheet(model, data, tmp_path):
    assert train(model, data, tmp_path / "a.safetensors", "--validate-every", "2") == 0
    folder = tmp_path / "a.run" / "validation"
    rows = (folder / "numbers.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "2"]
    assert (folder / "sheet.png").stat().st_size > 1000
    frames, _, settings = read_clip(folder / "step_000002.webp")
    assert frames.shape[1:] == (32, 32, 3) and settings == {"step": 2}


def test_control_c_saves_and_says_how_to_go_on(model, data, tmp_path, monkeypatch, capsys):
    output, begin = tmp_path / "a.safetensors", Trainer.run

    def interrupted(self, *, on_step, **more):
        def step(now):
            on_step(now)
            if now.step == 2:
                signal.raise_signal(signal.SIGINT)

        return begin(self, on_step=step, **more)

    monkeypatch.setattr(Trainer, "run", interrupted)
    assert train(model, data, output, steps=4) == 130
    said = capsys.readouterr().err
    assert "stopped after 2 of 4 steps" in said and "--resume" in said and not output.exists()
    monkeypatch.setattr(Trainer, "run", begin)
    assert train(model, data, output, steps=4) == 2
    assert "add --resume" in capsys.readouterr().err
    assert train(model, data, output, "--resume", steps=4) == 0
    assert train(model, data, tmp_path / "b.safetensors", steps=4) == 0
    with safe_open(str(output), "pt") as one, safe_open(str(tmp_path / "b.safetensors"), "pt") as other:
        assert all(torch.equal(one.get_tensor(key), other.get_tensor(key)) for key in one.keys())  # noqa: SIM118


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--frames", "20"], "too short for a clip of 20 frames .has 9."),
        (["--resume"], "no run to resume .*leave out --resume"),
        (["--rank", "99"], "rank"),
        (["--width", "30"], "multiple of 8"),
        (["--validation", "absent.png"], "does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence(model, data, tmp_path, capsys, more, words):
    assert train(model, data, tmp_path / "a.safetensors", *more) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(words, said) and said.startswith("svd_core: ")
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--p-mean", "nan"], "p_mean must be a finite number .got nan."),
        (["--p-mean", "1e9"], "p_mean must be -6.2 to 6.6"),
        (["--label-fps", "0"], "label fps .* 1 to 1000 .got 0."),
        (["--bucket", "nan"], "motion bucket .*got nan"),
        (["--frame-fps", "inf"], "frame rate .*got inf"),
        (["--rate", "inf"], "rate .*got inf"),
        (["--alpha", "inf"], "alpha .*got inf"),
        (["--validate-every", "-3"], "validate_every .*got -3"),
        (["--method", "temporal", "--targets", "spatial"], "got targets spatial"),
        (["--optimizer", "adamw8bit"], "needs the package bitsandbytes"),
        (["--output", "{}/a folder.safetensors"], "is a folder; choose another name"),
        (["--output", "{}/taken.safetensors"], "taken.run is a file.*choose another --output"),
        (["--output", "{}/taken.run/a.safetensors"], "cannot write"),
    ],
)
def test_what_cannot_be_is_said_before_the_model_is_loaded(model, data, tmp_path, monkeypatch, capsys, more, words):
    (tmp_path / "a folder.safetensors").mkdir()
    (tmp_path / "taken.run").write_text("something else")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr("svd_core.cli.train.load_model", None)
    assert train(model, data, tmp_path / "a.safetensors", *(word.format(tmp_path) for word in more)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(words, said) and said.startswith("svd_core: ")
    assert (tmp_path / "taken.run").read_text() == "something else" and not (tmp_path / "a.run").exists()


def test_a_rate_that_is_far_too_high_ends_in_one_sentence(model, data, tmp_path, capsys):
    assert train(model, data, tmp_path / "a.safetensors", "--rate", "1e30", "--validate-every", "4", steps=4) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match("svd_core: the loss or its gradient .* step 4 ", said)
    assert re.search("lower the rate; no state was saved", said)


def test_a_run_stopped_before_its_first_state_can_be_resumed(model, data, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("svd_core.cli.train._validation", interrupted)  # after the clips were encoded
        assert train(model, data, tmp_path / "a.safetensors") == 130
    said = capsys.readouterr().err
    assert re.search("clips encoded so far .*are kept; continue with\n  python -m svd_core", said)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "a.run" / "clips").iterdir()}
    assert train(model, data, tmp_path / "a.safetensors", "--resume") == 0
    assert made and made == {path: path.stat().st_mtime_ns for path in (tmp_path / "a.run" / "clips").iterdir()}


def test_a_kill_in_a_validation_is_made_up_for(model, data, tmp_path):
    output, folder = tmp_path / "a.safetensors", tmp_path / "a.run" / "validation"

    def told():
        return [row.split(",")[0] for row in (folder / "numbers.csv").read_text(encoding="utf-8").splitlines()]

    assert train(model, data, output, "--validate-every", "2") == 0
    (folder / "numbers.csv").write_text("step\n0\n")  # as it was after the clip of step 0
    row = folder / "rows" / "000002.png"
    row.write_bytes(row.read_bytes()[:100])
    assert train(model, data, output, "--resume", "--validate-every", "2") == 0
    assert told() == ["step", "0", "2"]
    row.write_bytes(row.read_bytes()[:100])  # a row that stays broken is left out, and does not stop the run
    assert train(model, data, output, "--resume", "--validate-every", "2", steps=4) == 0
    assert told() == ["step", "0", "2", "4"] and (folder / "sheet.png").exists()


def test_a_full_disk_in_a_validation_is_one_sentence_and_the_run_goes_on_later(
    model, data, tmp_path, monkeypatch, capsys
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "_add_row", full)
        assert train(model, data, tmp_path / "a.safetensors", "--validate-every", "2") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"svd_core: cannot write {tmp_path / 'a.run' / 'validation'} (No space left on device)")
    assert train(model, data, tmp_path / "a.safetensors", "--validate-every", "2", "--resume") == 0


def test_unfinished_files_of_a_killed_run_are_removed(model, data, tmp_path):
    output, run = tmp_path / "a.safetensors", tmp_path / "a.run"
    folders = [run, run / "clips", run / "validation", run / "validation" / "rows"]
    assert train(model, data, output, "--validate-every", "2") == 0
    for folder in folders:
        (folder / ".something.1a2b3c4d.part").write_bytes(b"half")
    for name in ("a.safetensors", "a.NOTICE.txt", "b.safetensors"):
        (tmp_path / f".{name}.1a2b3c4d.part").write_bytes(b"half")
    assert train(model, data, output, "--resume", "--validate-every", "2", steps=4) == 0
    assert not list(tmp_path.rglob("*.part"))


def test_fewer_steps_than_were_made_are_refused(model, data, tmp_path, capsys):
    assert train(model, data, tmp_path / "a.safetensors") == 0
    before = (tmp_path / "a.safetensors").read_bytes()
    assert train(model, data, tmp_path / "a.safetensors", "--resume", steps=1) == 2
    assert "has a run of 2 steps, and 1 were asked for; use 2 steps or" in capsys.readouterr().err
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_labels_that_were_given_are_kept_in_the_file(model, data, tmp_path):
    assert train(model, data, tmp_path / "a.safetensors", "--bucket", "40") == 0
    with safe_open(str(tmp_path / "a.safetensors"), "pt") as file:
        assert json.loads(file.metadata()["svd.lora.labels"]) == {"bucket": 40.0}


def test_photographs_train_the_temporal_layers(model, tmp_path):
    save_pictures(tmp_path / "photos", texture(80, 96))
    output = tmp_path / "pan.safetensors"
    assert train(model, str(tmp_path / "photos"), output, "--stills", "pan left", "--clips-per-still", "2") == 0
    lora = load_lora(output)
    assert all("time_stack" in name for name in lora.layers) and "pan left" in lora.metadata["svd.lora.trigger"]


def test_a_frame_decoder_survives_the_checkpoint(tmp_path):
    save_file(dict(tiny_tensors("image_decoder_tiny", 0)), tmp_path / "a.safetensors", metadata=TINY)
    model = svd.load_model(tmp_path / "a.safetensors")
    path = save_checkpoint(tmp_path / "b.safetensors", model, model.unet.state_dict(), dtype=torch.float32)
    again = svd.load_model(path)
    assert again.config == model.config
    for name, value in model.vae.state_dict().items():
        assert torch.equal(again.vae.state_dict()[name], value)


def test_settings_follow_the_model_and_the_data(model):
    config = svd.load_model("nano").config
    plan = clip_plan(config, width=None, frames=None)
    assert (plan.width, plan.height) == (config.width, config.height)
    camera, look = (default_settings(config, plan, camera=value, method="lora") for value in (True, False))
    assert camera.targets == "temporal" and look.targets == "both" and camera.p_mean > look.p_mean
    public = noise_mean(ClipPlan(576, 320, 14), camera=False)
    assert public == pytest.approx(0.7, abs=0.02)
    assert noise_mean(ClipPlan(1024, 576, 14), camera=False) > public
