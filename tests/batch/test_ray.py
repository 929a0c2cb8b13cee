"""Batches over Ray: devices of the cluster, its growth and losses, clips in `ray.data` and Ray Serve.

The cluster here has no GPU: Ray is told of some, which it then assigns like real ones.
"""

import os
import signal
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image

from svd_core.batch import Manifest, ModelSpec, make_clip, plan_jobs, ray_actors, read_rows, run_jobs
from svd_core.batch.ray_clips import SVDClips, clip_application
from svd_core.cli import batch as command
from svd_core.cli.main import build_parser, main
from svd_core.pipelines.steered import FILES
from svd_core.video import read_clip

SETTINGS = {"frames": 2, "steps": 2, "width": 64, "height": 64}
SPEC = ModelSpec("nano", threads=1)
CLIPS = 6


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, and a table that gives one of them a mask."""
    folder = tmp_path_factory.mktemp("in")
    for index in range(CLIPS):
        pixels = np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{index}.png")
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(folder / "mask.jpg")
    rows = [f"p{index}.png,{'mask.jpg' if index == 1 else ''}" for index in range(CLIPS)]
    (folder / "rows.csv").write_text("\n".join(["image,motion_mask", *rows, ""]))
    return folder


def jobs_of(pictures: Path, output: Path):
    output.mkdir(exist_ok=True)
    return plan_jobs(read_rows(pictures / "rows.csv", SETTINGS), SPEC, output, "")


def contents(folder: Path) -> dict[str, list[bytes]]:
    """The frames of every clip."""
    return {
        clip.name: [Image.open(frame).tobytes() for frame in sorted(clip.glob("*.png"))]
        for clip in sorted(folder.iterdir())
        if clip.is_dir()
    }


@pytest.fixture(scope="module")
def single(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """The clips made one by one in this process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("single")
    model = SPEC.load()
    for job in jobs_of(pictures, folder):
        make_clip(model, job, "nano")
    torch.set_num_threads(before)
    return contents(folder)


def fake_ray(monkeypatch: pytest.MonkeyPatch, **resources: float) -> MagicMock:
    """A Ray whose cluster has these resources."""
    ray = MagicMock()
    ray.is_initialized.return_value = False
    ray.cluster_resources.return_value = dict(resources)
    ray.available_resources.return_value = {name: 0.0 for name in resources}
    monkeypatch.setattr(ray_actors, "_ray", lambda: ray)
    return ray


@pytest.mark.parametrize(("address", "asked"), [(None, "local"), ("auto", "auto"), ("ray://head:1", "ray://head:1")])
def test_ray_on_this_machine_is_its_own_whatever_cluster_runs_here(monkeypatch, address, asked):
    ray = fake_ray(monkeypatch, CPU=2.0)
    assert ray_actors.RayActors(SPEC, ray_actors.RayCluster(address)).size == 2
    assert ray.init.call_args.kwargs["address"] == asked


@pytest.mark.parametrize(
    ("words", "resources", "device", "dtype"),
    [
        ([], {"CPU": 8.0, "GPU": 2.0}, "cuda", torch.float16),
        ([], {"CPU": 8.0}, "cpu", torch.float32),
        (["--device", "cuda"], {}, "cuda", torch.float16),  # an autoscaler starts with nothing
        (["--device", "cpu"], {"GPU": 2.0}, "cpu", torch.float32),
        (["--dtype", "bfloat16"], {"GPU": 2.0}, "cuda", torch.bfloat16),
    ],
)
def test_devices_are_those_of_the_cluster_whatever_this_machine_has(monkeypatch, words, resources, device, dtype):
    ray = fake_ray(monkeypatch, **resources)
    options = build_parser().parse_args(["batch", "in", "--output", "out", "--ray", *words])
    cluster = command._cluster(options)
    spec = command._cluster_spec(options, cluster)
    assert (spec.device, spec.dtype) == (device, dtype)
    ray_actors.RayActors(spec, cluster)
    needs = ray.remote.call_args.kwargs
    assert needs.get("num_gpus") == (1 if device == "cuda" else None) and needs["num_cpus"] == 1


def test_a_device_by_number_is_refused_since_ray_assigns_them(monkeypatch, tmp_path, pictures, capsys):
    fake_ray(monkeypatch, GPU=2.0)
    words = ["batch", str(pictures), "--output", str(tmp_path / "out"), "--ray", "--device", "cuda:1"]
    assert main(words) == 2 and "--device cuda:1 does not go with --ray" in capsys.readouterr().err


def test_the_number_of_actors_follows_the_cluster(monkeypatch):
    ray = fake_ray(monkeypatch)
    monkeypatch.setattr(ray_actors, "RECOUNT", 0.0)
    actors = ray_actors.RayActors(replace(SPEC, device="cuda"), ray_actors.RayCluster("auto"))
    assert actors.size == 1 and actors.needs() == "1 GPU each; the cluster has 0 and must grow"
    ray.cluster_resources.return_value = {"GPU": 3.0}
    assert actors.size == 3 and actors.needs() == "1 GPU each; 0 of 3 free"
    asked = ray_actors.RayActors(SPEC, ray_actors.RayCluster("auto"), 8)
    assert asked.size == 8


# With a real Ray


@pytest.fixture
def ray(monkeypatch):
    """Ray itself, ended afterwards."""
    module = pytest.importorskip("ray", reason="Ray is not installed: batches over Ray are NOT tested here")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # or it kills, where others have filled the memory
    yield module
    module.shutdown()


QUIET = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}


def test_ray_gives_the_clips_of_single_runs_though_an_actor_is_lost(ray, pictures, tmp_path, single):
    class Losing(ray_actors.RayActors):
        def __init__(self, *options):
            super().__init__(*options)
            self.pids, self.busy, self.given, self.lost = {}, set(), 0, 0

        def start(self, worker):
            super().start(worker)
            self.pids[worker] = self._actors[worker].__ray_call__.remote(lambda actor: os.getpid())

        def submit(self, worker, job):
            super().submit(worker, job)
            self.busy.add(worker)
            self.given += 1
            if self.given == 3:
                # Ray's own kill is a request, and may come after these short clips are all done.
                os.kill(ray.get(self.pids[worker]), getattr(signal, "SIGKILL", signal.SIGTERM))

        def poll(self):
            events = super().poll()
            self.lost += sum(event.kind == "lost" and event.worker in self.busy for event in events)
            self.busy -= {event.worker for event in events}
            return events

    ray.init("local", num_cpus=2, **QUIET)
    workers = Losing(SPEC, ray_actors.RayCluster(), 2)
    outcome = run_jobs(jobs_of(pictures, tmp_path / "out"), workers, Manifest(tmp_path / "out"))
    assert contents(tmp_path / "out") == single
    assert sorted(outcome.made) == [f"p{index}" for index in range(CLIPS)], "every clip once"
    assert workers.lost >= 1 and workers.given == CLIPS + workers.lost, "only what was lost was given out again"


def test_gpus_are_asked_for_and_each_actor_gets_its_own(ray, pictures, tmp_path, single):
    ray.init("local", num_cpus=4, num_gpus=2, **QUIET)
    seen = []

    class Watching(ray_actors.RayActors):
        def start(self, worker):
            super().start(worker)
            seen.append(self._actors[worker].__ray_call__.remote(lambda actor: ray.get_gpu_ids()))

    workers = Watching(SPEC, ray_actors.RayCluster(), resource="GPU")
    assert workers.size == 2
    run_jobs(jobs_of(pictures, tmp_path / "out"), workers, Manifest(tmp_path / "out"))
    assert sorted(ray.get(seen)) == [[0], [1]] and contents(tmp_path / "out") == single


def test_actors_come_with_machines_that_join_a_cluster_and_waiting_is_told(
    ray, pictures, tmp_path, single, monkeypatch
):
    from ray.cluster_utils import Cluster

    monkeypatch.setattr("svd_core.batch.dispatch.SILENCE", 0.5)
    monkeypatch.setattr(ray_actors, "RECOUNT", 0.2)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    said = []

    def join(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            cluster.add_node(num_cpus=2)

    try:
        ray.init(cluster.address, **{name: value for name, value in QUIET.items() if name != "include_dashboard"})
        workers = ray_actors.RayActors(SPEC, ray_actors.RayCluster("auto"))
        run_jobs(jobs_of(pictures, tmp_path / "out"), workers, Manifest(tmp_path / "out"), notice=join)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert (
        said[0] == f"0/{CLIPS} clips done, 0 running, 1 worker starting (1 CPU each; the cluster has 0 and must grow)"
    )
    assert contents(tmp_path / "out") == single


def test_map_batches_adds_a_column_of_clips(ray, pictures, single):
    pytest.importorskip("pyarrow", reason="ray.data is not installed: it is NOT tested here")
    import ray.data

    ray.init("local", num_cpus=2, **QUIET)
    rows = [{"path": str(pictures / f"p{index}.png"), "seed": 23} for index in (0, 2)]

    def pixels(row):
        return row | {"image": np.asarray(Image.open(row["path"]))}

    dataset = ray.data.from_items(rows).map(pixels)
    options = {"fn_constructor_kwargs": {"device": "cpu", **SETTINGS}, "batch_size": 2, "concurrency": 1}
    made = sorted(dataset.map_batches(SVDClips, **options).take_all(), key=lambda row: row["path"])
    for row, name in zip(made, ("p0", "p2"), strict=True):
        assert row["clip"].shape == (2, 64, 64, 3)
        expected = np.stack([np.frombuffer(frame, np.uint8).reshape(64, 64, 3) for frame in single[name]])
        assert np.abs(row["clip"].astype(int) - expected).max() <= 1  # another number of threads


def test_the_class_of_ray_takes_pictures_in_any_form_and_settings_by_row(pictures):
    clips = SVDClips("nano", device="cpu", **SETTINGS)
    path = pictures / "p0.png"
    forms = [str(path), path.read_bytes(), np.asarray(Image.open(path))]
    column = np.empty(3, dtype=object)
    column[:] = forms
    made = clips({"image": column, "seed": np.array([1, 1, 2]), "name": np.array(list("abc"))})
    assert list(made["name"]) == ["a", "b", "c"] and made["clip"].shape == (3, 2, 64, 64, 3)
    assert np.array_equal(made["clip"][0], made["clip"][1]) and not np.array_equal(made["clip"][0], made["clip"][2])
    with pytest.raises(ValueError, match="unknown setting 'frame'"):
        SVDClips("nano", device="cpu", frame=2)
    for name in FILES:
        with pytest.raises(ValueError, match=f"{name} cannot be given in a request"):
            clips.movie(path.read_bytes(), {name: "/etc/passwd"})


def test_ray_serve_answers_a_picture_with_a_clip(ray, pictures, tmp_path):
    pytest.importorskip("ray.serve", reason="Ray Serve is not installed: it is NOT tested here")
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init("local", num_cpus=4, **QUIET)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(clip_application("nano", device="cpu", **SETTINGS), name="clips", route_prefix="/")
        url = f"http://127.0.0.1:{port}/?seed=7&frames=3"
        with urllib.request.urlopen(url, data=(pictures / "p0.png").read_bytes(), timeout=120) as answer:
            assert answer.headers["Content-Type"] == "video/mp4"
            (tmp_path / "clip.mp4").write_bytes(answer.read())
        assert read_clip(tmp_path / "clip.mp4")[0].shape == (3, 64, 64, 3)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, data=b"no picture", timeout=120)
        assert refused.value.code == 400 and b"send the bytes of a PNG" in refused.value.read()
    finally:
        serve.shutdown()
