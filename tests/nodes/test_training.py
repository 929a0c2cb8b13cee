"""The training nodes on a random model of a few channels: data set, training, use, saving, cancelling, resuming."""

import shutil
from functools import cache

import pytest
import torch

from tests.helpers.nodes_pack import part, run, write_few_layers
from tests.helpers.training_films import film, texture

SMALL = {"width": 32, "height": 32, "frames": 4}


@pytest.fixture(scope="module", autouse=True)
def memory_estimated_once():
    """The estimate of a run's memory is a dry run that takes longer than these trainings, as validations do."""
    job = part("svd_core.training.job")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "training_memory", cache(job.training_memory))
        patch.setattr(job, "VALIDATION_STEPS", 2)
        yield


@pytest.fixture
def model(tmp_path, monkeypatch):
    path = tmp_path / "tiny.safetensors"
    write_few_layers(path)
    monkeypatch.setattr(part("nodes.load"), "model_location", lambda name: str(path))
    monkeypatch.setattr(part("nodes.host.comfy"), "output_folder", lambda: tmp_path)
    return run("SVDReelLoadModel", model_name="tiny.safetensors")[0]


def training_set(**given):
    return run("SVDReelTrainingSet", **{**SMALL, "images": film(9), **given})[0]


def train(model, clips, **given):
    return run("SVDReelTrainLora", model=model, training_set=clips, **{"steps": 2, "rank": 2, "batch": 1, **given})


def test_a_graph_can_train_use_and_save_a_lora(model, tmp_path):
    lora, with_lora, loss, validation, report = train(model, training_set())
    assert lora.ranks == (2,) and "2 steps" in report and "2 clips" in report
    for page in (loss, validation):
        assert page.ndim == 4 and page.shape[-1] == 3 and float(page.std()) > 0.01
    (path,) = run("SVDReelSaveLora", lora=lora, name="mine")
    (again,) = run("SVDReelSaveLora", lora=lora, name="mine")
    assert path.endswith("mine.safetensors") and again.endswith("mine_2.safetensors")
    assert (tmp_path / "loras" / "mine.NOTICE.txt").exists()
    animate = {"image": texture()[:, :48, :48], "width": 32, "height": 32, "steps": 2}
    (plain, *_), (one, *_) = (run("SVDReelAnimate", model=m, **animate) for m in (model, with_lora))
    loaded = run("SVDReelLoadLora", model=model, lora_name="none", lora=lora)[0]
    off = run("SVDReelLoadLora", model=model, lora_name="none", lora=lora, strength=0.0, temporal_strength=0.0)[0]
    assert not torch.equal(plain, one)
    assert torch.equal(run("SVDReelAnimate", model=loaded, **animate)[0], one)
    assert torch.equal(run("SVDReelAnimate", model=off, **animate)[0], plain)


def test_a_cancelled_run_goes_on_to_the_same_weights(model, monkeypatch, tmp_path):
    class Cancelled(Exception):
        pass

    host = part("nodes.host.comfy")
    pressed = []

    def after_two(self, done, *others):
        pressed.extend([done] if done == 2 else [])

    def cancel():
        if pressed:
            pressed.clear()
            raise Cancelled

    monkeypatch.setattr(host, "check_interrupt", cancel)
    with monkeypatch.context() as pressing:
        pressing.setattr(host.Progress, "show", after_two)
        with pytest.raises(Cancelled):
            train(model, training_set(), steps=4, seed=5)
    resumed = train(model, training_set(), steps=4, seed=5)[0]
    for path in (tmp_path / "svd_reel_training").glob("*/state.safetensors"):
        path.unlink()
    whole = train(model, training_set(), steps=4, seed=5)[0]
    for name, (down, up, _) in whole.adapters.items():
        assert torch.equal(down, resumed.adapters[name][0]) and torch.equal(up, resumed.adapters[name][1])


def test_the_trained_model_is_left_as_it_was(model):
    before = {name: value.clone() for name, value in model.unet.model.diffusion_model.state_dict().items()}
    train(model, training_set(camera_move="pan left", images=texture(), clips_per_picture=2))
    after = model.unet.model.diffusion_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_with_a_lora_is_refused(model):
    with_lora = train(model, training_set())[1]
    with pytest.raises(ValueError, match="a LoRA or another patch already"):
        train(with_lora, training_set())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"images": None}, "folder.*camera_move"),
        ({"folder": "/nowhere/at/all"}, "outside ComfyUI's input"),
        ({"folder": "absent"}, "does not exist"),
        ({"camera_move": "pan sideways"}, "no direction"),
        ({"camera_move": "static"}, "does not move"),
    ],
)
def test_sets_without_clips_are_refused(given, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        training_set(**given)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "name must be a plain name.*my_model"),
        ("a/b", "name must be a plain name.*my_model"),
        ("../up", "name must be a plain name.*my_model"),
        (".hidden", "name must be a plain name.*my_model"),
        ("a" * 300, r"at most 200 bytes.*\(got 300\)"),
        ("a\0b", "name must be a plain name"),
    ],
)
def test_names_that_no_file_can_have_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        run("SVDReelSaveLora", lora=object(), name=name)


def test_a_finished_run_whose_validation_was_deleted_still_gives_its_lora(model, tmp_path):
    clips = training_set()
    first = train(model, clips)[0]
    (folder,) = (tmp_path / "svd_reel_training").glob("*/validation")
    shutil.rmtree(folder)
    again, _, _, validation, _ = train(model, clips)
    assert validation.shape[-1] == 3 and (folder / "sheet.png").exists()
    assert all(torch.equal(again.adapters[name][1], up) for name, (_, up, _) in first.adapters.items())


def test_fp16_trains_and_the_host_is_asked_for_the_room_of_the_steps(model, monkeypatch):
    host, job = part("nodes.host.comfy"), part("svd_core.training.job")
    asked, counted = [], []
    estimate = job.training_memory
    monkeypatch.setattr(host, "make_room", lambda size, device: asked.append(size))
    monkeypatch.setattr(job, "training_memory", lambda *given: counted.append(estimate(*given)) or counted[-1])
    assert "1 steps" in train(model, training_set(), steps=1, precision="fp16")[-1]
    assert asked == [counted[0].peak] and counted[0].peak > counted[0].weights
