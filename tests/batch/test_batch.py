"""Batches: retries after losses and failures, resume, and clips equal to single runs, with real processes and Ray."""

import errno
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import svd_core as svd
from svd_core.batch import Manifest, ModelSpec, make_clip, plan_jobs, read_rows, run_jobs
from svd_core.batch.dispatch import BatchError, Event, InProcess
from svd_core.batch.local import LocalProcesses
from svd_core.cli.main import main
from svd_core.files import write_error
from svd_core.pictures import open_picture
from svd_core.video import read_clip

SETTINGS = {"frames": 2, "steps": 2, "width": 64, "height": 64}
# Sums depend on the number of threads in the last digit: every side of a comparison has the same.
SPEC = ModelSpec("nano", threads=1)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{index}.png")
    return folder


def jobs_of(pictures: Path, output: Path, **changes):
    output.mkdir(exist_ok=True)
    return plan_jobs(read_rows(pictures, SETTINGS | changes), SPEC, output, "")


class Scripted:
    """Workers without a model: each job's fate is the next word of its script, else it is done."""

    def __init__(self, size, fates, starts=()):
        self.size, self.fates, self.starts = size, fates, list(starts)
        self.events, self.given, self.released, self.stopped = [], [], [], False

    def start(self, worker):
        self.events.append(Event(worker, self.starts.pop(0) if self.starts else "ready", "no luck"))

    def submit(self, worker, job):
        self.given.append(job.name)
        script = self.fates.get(job.name, [])
        fate = script.pop(0) if script else "done"
        if fate in ("done", "lost late"):
            write(job)
        retry = fate == "unlucky"
        kind = {"unlucky": "failed", "lost late": "lost"}.get(fate, fate)
        self.events.append(Event(worker, kind, fate, retry=retry))

    def release(self, worker):
        self.released.append(worker)

    def needs(self):
        return "a bit of luck"

    def poll(self):
        events, self.events = self.events, []
        return events

    def stop(self):
        self.stopped = True


def write(job):
    svd.video.write_clip(torch.zeros(1, 8, 8, 3), job.output, fps=7, metadata={"batch_key": job.key})


FATES = [
    # fate of p3, times it is given out, what its entry says
    ([], 1, "done"),
    (["lost"], 2, "done"),
    (["lost", "unlucky"], 3, "done"),
    (["lost late"], 1, "done"),  # the clip was whole: it is recognised, not made again
    (["lost"] * 3, 3, "its worker was lost (lost), after 3 attempts"),
    (["failed"], 1, "failed"),  # the input's own fault: trying again cannot help
]


@pytest.mark.parametrize(("fate", "given", "says"), FATES, ids=lambda value: str(value))
def test_losses_are_made_good_and_bounded(pictures, tmp_path, fate, given, says):
    jobs, manifest = jobs_of(pictures, tmp_path / "out"), Manifest(tmp_path / "out")
    workers = Scripted(2, {"p3": list(fate)})
    outcome = run_jobs(jobs, workers, manifest, retries=2)
    assert workers.given.count("p3") == given and workers.stopped
    assert sorted(set(workers.given)) == [f"p{index}" for index in range(8)]
    assert len(workers.given) == 7 + given
    entry = Manifest(tmp_path / "out").clips["p3"]
    assert entry["status"] == ("done" if says == "done" else "failed")
    assert outcome.failed == ({} if says == "done" else {"p3": says})
    assert entry.get("error") == (None if says == "done" else says)


def test_workers_that_never_start_end_the_batch(pictures, tmp_path):
    jobs = jobs_of(pictures, tmp_path / "out")
    with pytest.raises(BatchError, match="3 workers in a row died.*use fewer --workers"):
        run_jobs(jobs, Scripted(2, {}, ["lost"] * 9), Manifest(tmp_path / "out"))
    with pytest.raises(BatchError, match="no luck"):
        run_jobs(jobs, Scripted(2, {}, ["broken"]), Manifest(tmp_path / "out"))


def test_only_what_is_missing_or_changed_is_made(pictures, tmp_path):
    output = tmp_path / "out"
    jobs = jobs_of(pictures, output)
    run_jobs(jobs, Scripted(1, {}), Manifest(output))
    assert Manifest(output).remaining(jobs) == []

    for frame in (output / "p1").iterdir():  # a clip that is gone
        frame.unlink()
    (output / "p1").rmdir()
    other = tmp_path / "in" / "p2.png"  # a picture that is another one
    Image.new("RGB", (32, 32), "red").save(other)
    assert [job.name for job in Manifest(output).remaining(jobs_of(pictures, output))] == ["p1", "p2"]
    assert len(Manifest(output).remaining(jobs_of(pictures, output, seed=5))) == 8

    (output / "manifest.jsonl").unlink()  # finished clips are recognised by the key inside them
    assert [job.name for job in Manifest(output).remaining(jobs_of(pictures, output))] == ["p1", "p2"]


def test_a_stop_in_the_middle_loses_nothing_that_is_finished(pictures, tmp_path):
    output = tmp_path / "out"
    jobs, made = jobs_of(pictures, output), []

    def make(model, job):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(job.name)
        write(job)

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, InProcess(lambda: None, make), Manifest(output))
    again = Scripted(2, {})
    run_jobs(jobs, again, Manifest(output))
    assert made == ["p0", "p1", "p2"] and sorted(again.given) == ["p3", "p4", "p5", "p6", "p7"]


def test_leftovers_of_killed_workers_go_and_foreign_clips_stay(pictures, tmp_path):
    output = tmp_path / "out"
    jobs = [replace(job, output=job.output + ".webp") for job in jobs_of(pictures, output)]
    part = output / ".p0.webp.0123abcd.part"
    part.write_bytes(b"half")
    Manifest(output).remaining(jobs)
    assert not part.exists()
    svd.video.write_clip(torch.zeros(1, 8, 8, 3), output / "p0.webp", fps=7)
    with pytest.raises(ValueError, match="was not made by a batch"):
        Manifest(output).remaining(jobs)


NOT_MANIFESTS = [
    ("manifest.json", ""),
    ("manifest.json", "[]"),
    ("manifest.json", '{"format": 9, "clips": {}}'),
    ("manifest.json", '{"format": 1, "clips": []}'),
    ("manifest.jsonl", "\n"),
    ("manifest.jsonl", "[]\n"),
    ("manifest.jsonl", '{"format": 9}\n'),
    ("manifest.jsonl", '{"format": 2}\n{"status": "done"}\n'),
    ("manifest.jsonl", '{"format": 2}\n["p0"]\n'),
]


@pytest.mark.parametrize(("name", "text"), NOT_MANIFESTS)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} is not a manifest.*remove that file"):
        Manifest(tmp_path)


def test_a_manifest_of_the_first_version_is_read_and_replaced(pictures, tmp_path):
    output = tmp_path / "out"
    jobs = jobs_of(pictures, output)
    for job in jobs[:2]:
        write(job)
    entry = {"status": "done", "output": "p0", "image": "p0.png", "key": jobs[0].key, "attempts": 2, "seconds": 1.0}
    failed = {"status": "failed", "output": "p5", "image": "p5.png", "key": jobs[5].key, "attempts": 1, "error": "no"}
    clips = {"p0": entry | {"size": 1}, "p5": failed, "gone": entry | {"output": "gone"}}
    (output / "manifest.json").write_text(json.dumps({"format": 1, "clips": clips}))
    manifest = Manifest(output)
    assert manifest.clips == clips
    assert [job.name for job in manifest.remaining(jobs)] == ["p2", "p3", "p4", "p5", "p6", "p7"]
    manifest.done(jobs[1], 1, 0.5)
    assert [file.name for file in output.glob("manifest*")] == ["manifest.jsonl"]
    again = Manifest(output).clips
    assert again == manifest.clips and again["p0"] == clips["p0"] and again["p5"]["error"] == "no"


def test_a_key_of_the_first_version_stays_the_same(tmp_path):
    # Computed by the first version of this package: another key would make every finished clip again.
    Image.new("RGB", (16, 16), (10, 20, 30)).save(tmp_path / "p.bmp")
    (tmp_path / "rows.csv").write_text("image,seed,frames\np.bmp,5,4\n")
    job = plan_jobs(read_rows(tmp_path / "rows.csv"), SPEC, tmp_path, ".mp4")[0]
    assert job.key == "c480427a19235403c3c3810e3f95b764909286d1677693182a3034e59f8f3072"


def test_a_camera_of_a_model_with_a_control_scale_has_another_key_than_in_the_first_version(tmp_path):
    # Strength 1 moves nano further than it did: its clips are not those of the first version.
    Image.new("RGB", (16, 16), (10, 20, 30)).save(tmp_path / "p.bmp")
    (tmp_path / "rows.csv").write_text("image,seed,motion_bucket,camera,frames\np.bmp,5,127,pan left 0.1,4\n")
    job = plan_jobs(read_rows(tmp_path / "rows.csv"), SPEC, tmp_path, ".mp4")[0]
    assert job.key != "dc2f7ecce61846ad1cae8d5dcae03ebf402ed4c694b65446df41f9f46ddde75e"


def test_saving_a_clip_appends_one_line(pictures, tmp_path):
    output = tmp_path / "out"
    jobs, manifest = jobs_of(pictures, output), Manifest(output)
    for job in jobs:
        write(job)
    manifest.remaining(jobs)
    before = manifest.path.read_bytes()
    manifest.failed(jobs[0], 3, "no luck")
    manifest.done(jobs[0], 1, 0.5)
    added = manifest.path.read_bytes().removeprefix(before).decode().splitlines()
    assert [json.loads(line)["status"] for line in added] == ["failed", "done"]
    assert Manifest(output).clips["p0"]["status"] == "done", "the last line of a clip counts"


def test_half_a_line_of_a_killed_run_is_dropped(pictures, tmp_path):
    output = tmp_path / "out"
    jobs = jobs_of(pictures, output)
    for job in jobs[:3]:
        write(job)
    first = Manifest(output)
    first.remaining(jobs)
    first.close()
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-20])
    again = Manifest(output)
    assert again.clips.keys() == {"p0", "p1"}
    assert [job.name for job in again.remaining(jobs)] == ["p3", "p4", "p5", "p6", "p7"]
    assert again.path.read_bytes() == whole


def test_pictures_that_did_not_change_are_not_read_again(pictures, tmp_path, monkeypatch):
    output, old = tmp_path / "out", time.time() - 60
    for file in pictures.iterdir():
        os.utime(file, (old, old))
    jobs = jobs_of(pictures, output)
    run_jobs(jobs, Scripted(1, {}), Manifest(output))
    opened = []
    monkeypatch.setattr("svd_core.batch.jobs.open_picture", lambda path: opened.append(path.name) or open_picture(path))
    monkeypatch.setattr("svd_core.batch.jobs.check_output", lambda *given, **more: pytest.fail("an output was probed"))
    rows, listed = read_rows(pictures, SETTINGS), Manifest(output).clips
    assert plan_jobs(rows, SPEC, output, "", listed=listed) == jobs and opened == []
    Image.new("RGB", (32, 32), "red").save(pictures / "p2.png")
    monkeypatch.undo()
    monkeypatch.setattr("svd_core.batch.jobs.open_picture", lambda path: opened.append(path.name) or open_picture(path))
    changed = plan_jobs(rows, SPEC, output, "", listed=listed)
    assert opened == ["p2.png"]
    assert [job.name for job in Manifest(output).remaining(changed)] == ["p2"]


def test_one_picture_of_many_rows_is_read_once(pictures, tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("image,name,seed\n" + "".join(f"in/p0.png,n{i},{i}\n" for i in range(20)))
    opened = []
    monkeypatch.setattr("svd_core.batch.jobs.open_picture", lambda path: opened.append(path.name) or open_picture(path))
    jobs = plan_jobs(read_rows(tmp_path / "rows.csv", SETTINGS), SPEC, tmp_path, ".mp4")
    assert opened == ["p0.png"] and len({job.key for job in jobs}) == 20


def test_a_full_disk_ends_the_batch_and_is_not_sampled_again(pictures, tmp_path):
    made = []

    def make(model, job):
        made.append(job.name)
        raise write_error(Path(job.output), OSError(errno.ENOSPC, "No space left on device"))

    with pytest.raises(BatchError, match="p0.*No space left on device.*free space"):
        run_jobs(jobs_of(pictures, tmp_path / "out"), InProcess(lambda: None, make), Manifest(tmp_path / "out"))
    assert made == ["p0"]


def contents(folder: Path) -> dict[str, bytes]:
    """Every frame file below a folder of clips."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("frame_*.png")}


@pytest.fixture
def single(pictures, tmp_path) -> dict[str, bytes]:
    """The clips as single runs in this process make them."""
    model = svd.load_model("nano")
    for job in jobs_of(pictures, tmp_path / "single"):
        make_clip(model, job, "nano")
    return contents(tmp_path / "single")


class Murderous(LocalProcesses):
    """Kills a worker, as hard as the system can, in the middle of its second job."""

    def __init__(self, specs):
        super().__init__(specs)
        self.given = []

    def submit(self, worker, job):
        super().submit(worker, job)
        self.given.append(job.name)
        if len(self.given) == 3:
            os.kill(self.pids[worker], getattr(signal, "SIGKILL", signal.SIGTERM))


def test_processes_give_the_clips_of_single_runs_though_one_is_killed(pictures, tmp_path, single):
    jobs = jobs_of(pictures, tmp_path / "out")
    workers = Murderous([SPEC, SPEC])
    outcome = run_jobs(jobs, workers, Manifest(tmp_path / "out"))
    assert contents(tmp_path / "out") == single
    assert sorted(outcome.made) == [job.name for job in jobs], "every clip once"
    assert len(workers.given) == 9, "only the clip of the killed worker was given out twice"
    attempts = [clip["attempts"] for clip in Manifest(tmp_path / "out").clips.values()]
    assert sorted(attempts) == [1] * 7 + [2]


def test_the_command_makes_resumes_and_says_what_failed(pictures, tmp_path, capsys):
    table = tmp_path / "rows.csv"
    table.write_text("image,name,seed\nin/p0.png,one,1\nin/p0.png,two,2\n")
    command = ["batch", str(table), "--output", str(tmp_path / "out"), "--kind", "webp", "--threads", "1"]
    command += [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.out.split() == [str(tmp_path / "out" / name) for name in ("one.webp", "two.webp")]
    frames, fps, metadata = read_clip(tmp_path / "out" / "two.webp")
    assert (len(frames), fps, metadata["seed"]) == (2, 7.0, 2)
    assert main(command) == 0
    assert "2 clips, 2 of them done already" in capsys.readouterr().err


def test_a_lora_shows_in_the_clips_and_in_their_keys(pictures, tmp_path):
    layers = svd.load_model("nano").unet.named_modules()
    layer, size = next((name, part.weight.shape) for name, part in layers if name.endswith("proj_in"))
    down, up = torch.full((1, size[1]), 0.3), torch.full((size[0], 1), 0.3)
    tensors = {f"diffusion_model.{layer}.lora_down.weight": down, f"diffusion_model.{layer}.lora_up.weight": up}
    save_file(tensors, tmp_path / "look.safetensors")
    clips = {}
    for strength in (None, 0, 1):
        spec = SPEC if strength is None else replace(SPEC, loras=(f"{tmp_path / 'look.safetensors'}:{strength}",))
        output = tmp_path / f"out {strength}"
        output.mkdir()
        job = plan_jobs(read_rows(pictures, SETTINGS)[:1], spec, output, "")[0]
        make_clip(spec.load(), job, spec.path)
        clips[strength] = (job.key, (output / job.name / sorted(p.name for p in (output / job.name).glob("*.png"))[0]))
    keys = {key for key, _ in clips.values()}
    pixels = {strength: np.asarray(Image.open(path)) for strength, (_, path) in clips.items()}
    assert len(keys) == 3
    assert np.array_equal(pixels[None], pixels[0]) and not np.array_equal(pixels[None], pixels[1])
    with pytest.raises(ValueError, match="missing.safetensors"):
        plan_jobs(read_rows(pictures, SETTINGS), replace(SPEC, loras=("missing.safetensors",)), tmp_path, "")


def test_the_command_finds_what_is_wrong_before_it_begins(pictures, tmp_path, capsys):
    output = ["--output", str(tmp_path / "out")]
    for wrong, sentence in (
        (["--set", "frames"], "--set frames has no value"),
        (["--set", "frames=0"], "frames must be 1 to 100000 (got 0)"),
        (["--workers", "0"], "--workers must be 1 or more (got 0)"),
        (["--device", "cuda:7"], "device cuda:7 is not available"),
        (["--model", "nothing.safetensors"], "there is no model"),
    ):
        assert main(["batch", str(pictures), *output, *wrong]) == 2
        assert sentence in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*p*.mp4"))
