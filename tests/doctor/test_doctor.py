"""The doctor: every check on a tiny model, what it says of faults, and the profile that other commands follow."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from svd_core import load_model
from svd_core.cli import models
from svd_core.cli.main import main
from svd_core.doctor import examine as examining
from svd_core.doctor.examine import Extent, examine
from svd_core.doctor.file_check import check_file, fingerprint
from svd_core.doctor.findings import Finding
from svd_core.doctor.options import KERNELS, SHARED, Gain, describe_options, profile_of
from svd_core.doctor.precision import breaking_layer, compare_precisions, outputs_of
from svd_core.doctor.profile import DeviceProfile, device_key, follow_profile, read_profile, write_profile
from svd_core.doctor.trial import TrialSize, make_trial, trial_size
from svd_core.model import guidance_modes
from svd_core.networks.variants import release_config
from svd_core.plan.costs import unet_flops
from tests.helpers.checkpoint_files import FEW_LAYERS, FEW_LAYERS_METADATA, small_tensors

CPU = torch.device("cpu")
TINY = Extent(comparison=1e-9, timing=1e-9, rounds=1, quick=True)
SIZE = TrialSize(4, 64, 64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with few layers: the whole check takes two seconds."""
    path = tmp_path_factory.mktemp("model") / "few.safetensors"
    save_file(dict(small_tensors(FEW_LAYERS)), path, metadata=FEW_LAYERS_METADATA)
    return str(path)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no half second on the load of the machine."""
    monkeypatch.setattr(examining, "share_of_cores", lambda: 1.0)


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in findings}


def test_every_check_runs_on_a_cpu_and_the_page_holds_what_an_issue_needs(checkpoint: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("svd_core.cli.doctor.QUICK", TINY)
    page, profile = tmp_path / "page.md", tmp_path / "profile.json"
    words = ["doctor", "--model", checkpoint, "--quick", "--device", "cpu", "--quiet"]
    assert main([*words, "--report", str(page), "--profile", str(profile)]) == 0
    text = page.read_text(encoding="utf-8")
    for check in ("file", "parts", "bfloat16", "placements", "decode", "speed", "memory of the decode", "guidance"):
        assert f"\n| {check} | " in text, check
    assert "torch" in text and "AMX" in text or "none" in text
    assert "| bad |" not in text and str(tmp_path) not in text
    stored = json.loads(profile.read_text())
    assert list(stored["devices"]) == [device_key(CPU)]
    assert stored["devices"][device_key(CPU)]["factors"].keys() == {"bfloat16"}


def test_a_report_or_a_profile_over_the_model_is_refused_before_the_work(checkpoint: str, capsys):
    for option in ("--report", "--profile"):
        assert main(["doctor", "--model", checkpoint, option, checkpoint]) == 2
        assert "would overwrite" in capsys.readouterr().err
    assert main(["doctor", "--profile", "p.json", "--no-profile"]) == 2


# The file


def test_a_damaged_weight_is_found_unless_the_check_is_quick(checkpoint: str, tmp_path: Path):
    tensors = load_file(checkpoint)
    tensors["model.diffusion_model.out.2.bias"][0] = torch.nan
    path = tmp_path / "damaged.safetensors"
    save_file(tensors, path, metadata=FEW_LAYERS_METADATA)
    (weights,) = [finding for finding in check_file(path) if finding.check == "weights"]
    assert weights.verdict == "bad" and "out.2.bias" in weights.seen and "Download" in weights.advice
    assert "bad" not in verdicts(check_file(path, quick=True)).values()


@pytest.mark.parametrize("fault", ["missing tensor", "cut off", "pickle"])
def test_a_file_that_is_not_what_it_says_ends_the_run_with_a_sentence(checkpoint: str, tmp_path: Path, fault: str):
    path = tmp_path / "svd.safetensors"
    if fault == "missing tensor":
        tensors = load_file(checkpoint)
        del tensors["model.diffusion_model.out.2.bias"]
        save_file(tensors, path, metadata=FEW_LAYERS_METADATA)
    else:
        content = Path(checkpoint).read_bytes()
        path.write_bytes(content[:-10] if fault == "cut off" else b"PK\3\4" + content)
    made = examine(path, CPU, extent=TINY)
    assert verdicts(made.diagnosis.findings) == {"file": "bad"} and made.profile is None
    assert not made.diagnosis.is_well and "bad" in made.diagnosis.text()


def test_a_fingerprint_survives_a_change_of_precision_and_knows_nano(checkpoint: str, tmp_path: Path):
    half = tmp_path / "half.safetensors"
    tensors = {name: tensor.half() for name, tensor in load_file(checkpoint).items()}
    save_file(tensors, half, metadata=FEW_LAYERS_METADATA)
    assert fingerprint(half) == fingerprint(checkpoint) != fingerprint("nano")
    assert verdicts(check_file("nano", quick=True)) == {"file": "good", "fingerprint": "good"}


def test_a_unet_alone_is_told_what_it_lacks(checkpoint: str, tmp_path: Path):
    path = tmp_path / "unet.safetensors"
    unet = {name: tensor for name, tensor in load_file(checkpoint).items() if "diffusion_model" in name}
    save_file(unet, path, metadata=FEW_LAYERS_METADATA)
    found = {finding.check: finding for finding in examine(path, CPU, extent=TINY).diagnosis.findings}
    assert found["file"].verdict == "note" and found["parts"].verdict == "bad"
    assert "--complete-from" in found["parts"].advice


# Precision


def test_the_layer_that_overflows_is_named(checkpoint: str):
    model = load_model(checkpoint)
    trial = make_trial(model, SIZE)
    reference = outputs_of(model, trial)
    model.unet.middle_block[0].out_layers["3"].weight.data.fill_(torch.inf)
    broken = outputs_of(model, trial)
    stages = {name: output for name, output in broken.items() if isinstance(output, str)}
    assert stages.keys() == {"UNet at sigma 80", "UNet at sigma 1"}
    assert set(stages.values()) == {"middle_block.0.out_layers.3"}
    (finding,), table = compare_precisions(reference, {torch.float16: broken})
    assert finding.verdict == "bad" and "middle_block.0.out_layers.3" in finding.seen and "bfloat16" in finding.advice
    assert sum("breaks in middle_block.0" in row[-1] for row in table.rows) == 2


def test_an_overflow_of_the_decoder_alone_needs_nothing():
    fine = {"UNet": torch.ones(2), "VAE decoder": torch.ones(2)}
    (finding,), _ = compare_precisions(fine, {torch.float16: {**fine, "VAE decoder": "decoder stage 3"}})
    assert finding.verdict == "note" and "float32" in finding.advice


@pytest.mark.parametrize(("error", "verdict"), [(0.001, "good"), (0.02, "note"), (0.2, "bad")])
def test_half_precision_is_judged_by_its_largest_error(error: float, verdict: str):
    reference = {"UNet": torch.ones(4), "VAE": torch.ones(4)}
    half = {**reference, "VAE": torch.ones(4) + error}
    (finding,), _ = compare_precisions(reference, {torch.float16: half})
    assert finding.verdict == verdict and "VAE" in finding.seen


def test_a_layer_is_looked_for_without_changing_the_network():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    assert breaking_layer(network, lambda: network(torch.full((1, 2), torch.inf))) == "0"
    assert not any(module._forward_hooks for module in network.modules())


# Sizes


@pytest.mark.parametrize("flops", [1e9, 1e13, 1e14, 1e20])
def test_the_trial_is_the_largest_clip_within_the_work(flops: float):
    config = release_config("svd_xt")
    size = trial_size(config, flops)
    assert size.width % 64 == size.height % 64 == 0 and size.frames <= 25
    assert unet_flops(config.unet, *size.latent) <= max(flops, unet_flops(config.unet, 4, 8, 16))
    assert flops < 1e20 or (size.frames, size.width, size.height) == (25, 1024, 576)


# Options and profile


def gain(option: str, factor: float, size: TrialSize = SIZE, steady: bool = True) -> Gain:
    return Gain(option, size, factor, steady, 1e-4)


def test_only_steady_gains_above_three_per_cent_count():
    large = replace(SIZE, frames=14)
    larger = replace(SIZE, frames=25)
    gains = [gain(KERNELS, 1.02), gain("fp8 products", 1.2, steady=False), gain("compiled blocks", 1.3)]
    gains += [gain(SHARED, 1.2), gain(SHARED, 1.1, large), gain(SHARED, 0.99, larger)]
    profile = profile_of(gains)
    assert [profile.gains(name) for name in (KERNELS, "fp8 products", "compiled blocks", "other")] == [
        False,
        False,
        True,
        None,
    ]
    assert profile.shared_up_to == large.pixels
    findings, table = describe_options(gains, {"float16 sums": "the device is cpu"}, CPU)
    assert "compiled blocks (1.30 times)" in findings[0].seen and "--compile" in findings[0].advice
    assert KERNELS not in findings[0].seen and len(table.rows) == 7
    assert profile_of([]).shared_up_to is None and profile_of([gain(SHARED, 1.0)]).shared_up_to == 0


def test_a_profile_is_kept_per_device_and_read_back(tmp_path: Path):
    path = tmp_path / "folder" / "profile.json"
    assert read_profile(CPU, path) is None
    profile = DeviceProfile({KERNELS: 0.98}, 4096)
    write_profile(profile, CPU, path)
    content = json.loads(path.read_text())
    content["devices"]["another card"] = {"factors": {}, "shared_up_to": None}
    path.write_text(json.dumps(content))
    write_profile(replace(profile, shared_up_to=None), CPU, path)
    assert read_profile(CPU, path) == DeviceProfile({KERNELS: 0.98}, None)
    assert "another card" in json.loads(path.read_text())["devices"]


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        "[]",
        '{"svd_reel_profile": 2, "devices": {}}',
        '{"svd_reel_profile": 1, "devices": {"KEY": 3}}',
        '{"svd_reel_profile": 1, "devices": {"KEY": {"factors": {"a": -1}}}}',
        '{"svd_reel_profile": 1, "devices": {"KEY": {"factors": {"a": true}}}}',
        '{"svd_reel_profile": 1, "devices": {"KEY": {"factors": {}, "shared_up_to": 1.5}}}',
    ],
)
def test_a_damaged_profile_is_named_and_left_out(tmp_path: Path, caplog, content: str):
    path = tmp_path / "profile.json"
    path.write_text(content.replace("KEY", device_key(CPU)))
    assert read_profile(CPU, path) is None
    assert str(path) in caplog.text and "svd-reel doctor" in caplog.text


def test_automatic_choices_follow_the_profile_on_cards_alone(tmp_path: Path, monkeypatch):
    path = tmp_path / "profile.json"
    path.write_text("{}")
    card = torch.device("cuda", 0)
    monkeypatch.setattr("svd_core.doctor.profile.read_profile", lambda device, path: DeviceProfile({}, 1000))
    try:
        assert guidance_modes.gains(14, 40, 72)
        follow_profile(card, path)
        assert guidance_modes.gains(10, 10, 10) and not guidance_modes.gains(11, 10, 10)
        assert follow_profile(CPU, path) is None
        assert guidance_modes.gains(14, 40, 72)
    finally:
        guidance_modes.use_measured_limit(None)


class _Said:
    """Collects what a command says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize(
    ("profile", "mode", "used"),
    [
        (None, "auto", "auto"),
        (DeviceProfile(), "auto", "auto"),
        (DeviceProfile({KERNELS: 1.1}), "auto", "auto"),
        (DeviceProfile({KERNELS: 1.0}), "auto", "plain"),
        (DeviceProfile({KERNELS: 1.1}), "plain", "plain"),
    ],
)
def test_kernels_on_auto_are_off_where_they_gain_nothing(profile: DeviceProfile | None, mode: str, used: str):
    said = _Said()
    assert models._kernels_by(profile, mode, said) == used
    assert bool(said.lines) == (mode == "auto" and used == "plain")
