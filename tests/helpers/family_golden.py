"""Compare the product with golden outputs of the public code of the SVD family (tests/data/family).

    python -m tests.helpers.family_golden FILE.safetensors ... windows.json

A file's metadata names its kind; the weights are built by the rule of tests/data/golden/README.md from the `.keys.json`
beside it. Prints a relative L2 error per tensor and exits with 1 where one is above its limit: 1e-5 for one evaluation,
2e-5 for a whole sampling, and none for the whole numbers of window plans in JSON. Sizes, clips, strengths and noise
levels are those of the file.
"""

import json
import math
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import svd_core as svd
from svd_core.checkpoints import split_state_dict
from svd_core.checkpoints.adapters import expect_kind, kept_tensors
from svd_core.checkpoints.backward_motion import load_backward_motion, motion_differences
from svd_core.checkpoints.camera_weights import cameractrl_of, motionctrl_of
from svd_core.checkpoints.controlnet import controlnet_of
from svd_core.checkpoints.pose_network import pose_network_of
from svd_core.controls.adapters import AdapterControl, attached
from svd_core.controls.anchored_windows import AnchoredWindows
from svd_core.controls.between_weights import FineTunedBetween, LoadedBackwardMotion
from svd_core.controls.camera.pose_files import cropped_intrinsics, parse_realestate
from svd_core.controls.camera.weights import (
    CameraCtrlAdapter,
    MotionCtrlAdapter,
    camera_to_world,
    relative_rows,
    scaled_rows,
)
from svd_core.controls.poses import ControlNeXtAdapter, MimicMotionAdapter
from svd_core.model.conditioning import clip_pixels, motion_vector
from svd_core.model.orbit import OrbitPath, orbit_vector
from svd_core.networks.config import SVDConfig
from svd_core.networks.controlnet import AddResiduals, trained_counts
from svd_core.networks.layers import sinusoidal_embedding
from svd_core.networks.unet import UNet
from svd_core.pictures.objects import prepare_object
from svd_core.pipelines.character import DEFAULTS, pose_adapter, sample_character
from svd_core.pipelines.video_depth import VideoDepthSettings, sample_depth, sample_normals
from svd_core.sampling.controls import Inputs, Run
from svd_core.sampling.guidance import Guidance

from .family_windows import wrong_plans
from .golden_rule import fill_by_rule

EVALUATION, SAMPLING = 1e-5, 2e-5
HEADS = {"svd.head_channels": "head_channels", "svd.clip_head_channels": "clip_head_width"}
GUIDANCE = (1.0, 2.5)  # of SV3D and SVD, where a file says nothing else


class Golden(NamedTuple):
    """One golden file: its name, settings, tensors, and the key table of its weights (empty where it has none)."""

    name: str
    settings: dict
    tensors: dict[str, Tensor]
    shapes: dict[str, list[int]]


class Finding(NamedTuple):
    """The relative L2 error of one tensor, and the highest one allowed."""

    tensor: str
    error: float
    limit: float


def read_golden(path: Path) -> Golden:
    """Read a golden file and the `.keys.json` beside it."""
    with safe_open(path, "pt") as file:
        settings = {name: _value(text) for name, text in file.metadata().items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    table = path.parent / f"{path.stem}.keys.json"
    shapes = json.loads(table.read_text(encoding="utf-8")) if table.exists() else {}
    return Golden(path.stem, settings, tensors, shapes)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def relative(actual: Tensor, expected: Tensor) -> float:
    """Return the relative L2 error; infinity where the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    return float((actual.float() - expected).norm() / expected.norm().clamp(min=1e-12))


def load_rule_model(golden: Golden, shapes: dict[str, list[int]] | None = None, **metadata: object) -> svd.SVDModel:
    """Return the model whose weights the rule makes, through a file and the product's own loader."""
    weights = fill_by_rule(shapes or golden.shapes, int(golden.settings["seed"]))
    heads = {name: golden.settings.get(word, 16) for name, word in HEADS.items()}
    metadata = {**heads, **metadata}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{golden.name}.safetensors"
        save_file(weights, path, {name: str(value) for name, value in metadata.items()})
        return svd.load_model(str(path))


def orbit_findings(golden: Golden) -> Iterator[Finding]:
    """SV3D_u and SV3D_p: preprocessing, condition, denoiser, sampling, decode."""
    kind, g = golden.settings["kind"], golden.tensors
    frames, augmentation = len(g["noise"]), float(golden.settings["aug"])
    model = load_rule_model(golden, **{"svd.variant": kind})
    path = OrbitPath.level(frames=frames)
    if kind == "sv3d_p":
        path = OrbitPath(tuple(g["elevations_deg"].tolist()), tuple(g["azimuths_deg"].tolist()))
        yield Finding("polars_rad", relative(path.polar_radians(), g["polars_rad"]), EVALUATION)
        yield Finding("azimuths_rad", relative(path.azimuth_radians(), g["azimuths_rad"]), EVALUATION)
    condition = svd.Condition(
        model.encode_image(g["image"]),
        model.encode_latent(g["image"] + augmentation * g["aug_noise"]),
        orbit_vector(kind, path, augmentation),
    )
    yield Finding("clip_preprocessed", relative(clip_pixels(g["image"]), g["clip_preprocessed"]), EVALUATION)
    yield Finding("clip_embed", relative(condition.token, g["clip_embed"]), EVALUATION)
    yield Finding("cond_concat", relative(condition.latent, g["cond_concat"]), EVALUATION)
    yield Finding("cond_vector", relative(condition.vector.expand(frames, -1), g["cond_vector"]), EVALUATION)
    for name, branch, sigma in evaluations(g):
        used = condition.unconditional() if branch == "uncond" else condition
        found = model.denoise(g["noise"] * (1 + sigma**2) ** 0.5, sigma, used)
        yield Finding(name, relative(found, g[name]), EVALUATION)
    scales = golden.settings.get("guider", {}).get("params", {})
    guidance = svd.triangle_guidance(scales.get("min_scale", 1.0), scales.get("max_scale", 2.5), frames)
    yield Finding("guidance", relative(guidance, g["guidance"]), EVALUATION)
    sigmas = svd.karras_sigmas(int(golden.settings["steps"]))
    yield Finding("sigmas", relative(sigmas, g["sigmas"]), EVALUATION)
    latents = svd.sample(model.denoise, g["noise"], sigmas, guidance, condition)
    yield Finding("samples_z", relative(latents, g["samples_z"]), SAMPLING)
    decoded = model.decode(g["samples_z"])
    errors = {name: relative(decoded, g[name]) for name in g if name.startswith("decoded_")}
    best = min(errors, key=errors.get)
    yield Finding(best, errors[best], EVALUATION)


def preparation_findings(golden: Golden) -> Iterator[Finding]:
    """The official preparation of an object's picture; every few pixels are recorded, in 8 bits."""
    for name, expected in golden.tensors.items():
        picture, _, ratio = name.partition(".ratio_")
        if ratio:
            rgba = golden.tensors[f"{picture}.rgba"].float() / 255
            made = prepare_object(rgba, ratio=None if ratio == "none" else float(ratio))
            step = -(-len(made) // len(expected))  # every third pixel is recorded
            levels = (made * 255).round()[::step, ::step]
            yield Finding(name, float((levels - expected.float()).abs().max()), 0.0)


def controlnet_findings(golden: Golden) -> Iterator[Finding]:
    """The SVD ControlNet: hint, residuals, and the UNet with them as trained, at half strength, and each once."""
    g = golden.tensors
    videos, frames = g["sample"].shape[:2]
    weights = fill_by_rule(golden.shapes, int(golden.settings["seed"]))
    heads = int(golden.settings["head_channels"])
    parts = {name: {k[len(name) + 1 :]: v for k, v in weights.items() if k.startswith(f"{name}.")} for name in
             ("unet", "controlnet")}  # fmt: skip
    unet = rule_unet(parts["unet"], heads)
    network = controlnet_of(parts["controlnet"], golden.name, head_channels=heads).network
    x, c_noise, token, vector = unet_inputs(g, unet.config.vector_channels)
    hint = network.hint(g["control_image"])
    yield Finding("hint", relative(hint, g["hint"]), EVALUATION)
    made = network.residuals(x, c_noise, token, vector, frames, hint.repeat(videos, 1, 1, 1))
    for index, residual in enumerate(made.skips):
        yield Finding(f"residual_{index}_eps5", relative(residual, g[f"residual_{index}_eps5"]), EVALUATION)
    yield Finding("residual_mid_eps5", relative(made.middle, g["residual_mid_eps5"]), EVALUATION)
    trained, once = trained_counts(unet.config), [1] * len(made.skips)
    cases = {
        "unet_without_eps5": None,
        "unet_with_eps5": AddResiduals(made, trained),
        "unet_half_eps5": AddResiduals(made, trained, 0.5),
        "unet_once_eps5": AddResiduals(made, once),
    }
    cases |= {name: AddResiduals(made, trained, strength) for name, strength in strengths(g)}
    for name, hooks in ((name, hooks) for name, hooks in cases.items() if name in g):
        found = unet(x, c_noise, token, vector, frames, hooks=hooks).unflatten(0, (videos, frames))
        yield Finding(name, relative(found, g[name]), EVALUATION)


def strengths(g: dict[str, Tensor]) -> list[tuple[str, float]]:
    """Return the tensors of a UNet with an adapter at some strength, such as "unet_scale_0.5_eps5", with the number."""
    found = [(name, re.fullmatch(r"unet_scale_([\d.]+)_eps5", name)) for name in g]
    return [(name, float(match[1])) for name, match in found if match]


def evaluations(g: dict[str, Tensor]) -> list[tuple[str, str, float]]:
    """Return the tensors of one evaluation: name, what is before its noise level ("", "uncond", "still"), the level."""
    found = [(name, re.fullmatch(r"denoised_(?:(\w+)_)?sigma_([\d.e+-]+)", name)) for name in g]
    return [(name, match[1] or "", float(match[2])) for name, match in found if match]


def rule_unet(tensors: dict[str, Tensor], head_channels: int) -> UNet:
    """Return the UNet of tensors with diffusers' names, through the product's own splitting of checkpoints."""
    parts = split_state_dict(
        {f"unet.{key}": value for key, value in tensors.items()}, {"svd.head_channels": str(head_channels)}
    )
    unet = UNet(parts.config.unet)
    unet.load_state_dict(dict(parts.unet))
    return unet.requires_grad_(False)


def unet_inputs(g: dict[str, Tensor], vector_channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x [B*T, 8, h, w], c_noise [B*T], tokens [B*T, 1, D] and vectors [B*T, V] of a golden pass."""
    videos, frames = g["sample"].shape[:2]
    numbers = g["added_time_ids"]
    vector = torch.cat([sinusoidal_embedding(row, vector_channels // len(row)).reshape(1, -1) for row in numbers])
    token = g["token"].repeat_interleave(frames, 0) if "token" in g else g["tokens"].flatten(0, 1)[:, None]
    noise = g["c_noise"].flatten()
    noise = noise.repeat_interleave(frames) if len(noise) == videos else noise.expand(videos * frames)
    return g["sample"].flatten(0, 1), noise, token, vector.repeat_interleave(frames, 0)


def motionctrl_findings(golden: Golden) -> Iterator[Finding]:
    """MotionCtrl: poses, and its adapter on a base model whose own temporal cross-attention is another."""
    g, seed = golden.tensors, int(golden.settings["seed"])
    weights = fill_by_rule(golden.shapes, seed)
    for key in (key for key in weights if key.endswith("cc_projection.weight")):
        channels = len(weights[key])
        weights[key][:, :channels] = torch.eye(channels) + 0.2 * weights[key][:, :channels]
    trained = kept_tensors(expect_kind("motionctrl", golden.shapes, golden.name, ""), golden.shapes)
    base = {key: value for key, value in weights.items() if "cc_projection" not in key}
    base |= fill_by_rule({key: golden.shapes[key] for key in trained if key in base}, seed + 1)
    parts = split_state_dict(base, {"svd.head_channels": str(golden.settings["head_channels"])})
    unet = UNet(parts.config.unet)
    unet.load_state_dict(dict(parts.unet))
    model = svd.SVDModel(unet.requires_grad_(False), None, None, parts.config)
    network = motionctrl_of({key: weights[key] for key in trained}, golden.name, parts.config.unet)
    poses = scaled_rows(g["camera_file_rows"], float(golden.settings["speed"]))
    yield Finding("RT", relative(relative_rows(poses), g["RT"]), EVALUATION)
    still = MotionCtrlAdapter(network, poses[:1].repeat(len(poses), 1))
    moving = MotionCtrlAdapter(network, poses)
    plain = svd.Condition(g["token"], g["latent"], g["vector"])
    condition = attached(plain, moving)
    branches = {"": condition, "uncond": condition.unconditional(), "still": attached(plain, still)}
    for name, branch, sigma in evaluations(g):
        found = model.denoise(g["noise"] * (1 + sigma**2) ** 0.5, sigma, branches[branch])
        yield Finding(name, relative(found, g[name]), EVALUATION)
    low, high = (float(golden.settings.get(name, value)) for name, value in zip(("low", "high"), GUIDANCE, strict=True))
    guidance = svd.linear_guidance(low, high, len(poses))
    made = svd.sample(model.denoise, g["noise"], g["sigmas"], guidance, plain, controls=[AdapterControl(moving)])
    yield Finding("samples_z", relative(made, g["samples_z"]), SAMPLING)


def cameractrl_findings(golden: Golden) -> Iterator[Finding]:
    """CameraCtrl: rays, pose features, and the UNet with them."""
    g, (unet, rest) = golden.tensors, _unet_and_rest(golden)
    for key in (key for key in golden.shapes if key.endswith("pos_encoder.pe")):
        rest[key] = _interleaved_positions(*golden.shapes[key][1:])
    network = cameractrl_of(rest, golden.name, unet.config)
    height, width = g["plucker"].shape[-2:]
    rows = parse_realestate("\n".join(["golden", *(" ".join(map(repr, row)) for row in g["pose_rows"].tolist())]))
    rows = cropped_intrinsics(rows, width, height)
    adapter = CameraCtrlAdapter.of(network, rows)
    pixels = rows.intrinsics * torch.tensor([width, height, width, height])
    yield Finding("intrinsics", relative(pixels, g["intrinsics"]), EVALUATION)
    yield Finding("c2w", relative(camera_to_world(rows.poses), g["c2w"]), EVALUATION)
    yield Finding("plucker", relative(adapter.rays(width, height), g["plucker"]), EVALUATION)
    for level, feature in enumerate(network.pose_encoder(g["plucker"])):
        yield Finding(f"pose_feature_{level}", relative(feature, g[f"pose_feature_{level}"]), EVALUATION)
    x, c_noise, token, vector = unet_inputs(g, unet.config.vector_channels)
    frames = len(rows)
    for name, strength in (("unet_with_eps5", 1.0), *strengths(g)):
        own = CameraCtrlAdapter.of(network, rows, strength)
        found = unet(x, c_noise, token, vector, frames, adapters=[(own,)] * (len(x) // frames))
        yield Finding(name, relative(found.unflatten(0, (-1, frames)), g[name]), EVALUATION)


def _interleaved_positions(frames: int, channels: int) -> Tensor:
    steps = torch.arange(0, channels, 2, dtype=torch.float32)
    angles = torch.arange(frames)[:, None] * torch.exp(steps * (-math.log(10000.0) / channels))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(1, frames, channels)


def controlnext_findings(golden: Golden) -> Iterator[Finding]:
    """ControlNeXt: the small network, and the UNet with it; row 0 of the batch is unconditional."""
    g, (unet, rest) = golden.tensors, _unet_and_rest(golden)
    network = pose_network_of({key.removeprefix("controlnext."): value for key, value in rest.items()}, golden.name)
    x, c_noise, token, vector = unet_inputs(g, unet.config.vector_channels)
    videos, frames = g["sample"].shape[:2]
    adapter = ControlNeXtAdapter(network.network, g["control_image"])
    yield Finding("control", relative(adapter.features(c_noise[:1]), g["control"]), EVALUATION)
    for name, strength in (("unet_without_eps5", None), *strengths(g)):
        own = () if strength is None else (replace(adapter, strength=strength),)
        found = unet(x, c_noise, token, vector, frames, adapters=[(), *[own] * (videos - 1)])
        yield Finding(name, relative(found.unflatten(0, (videos, frames)), g[name]), EVALUATION)


def mimicmotion_findings(golden: Golden) -> Iterator[Finding]:
    """MimicMotion: pose features (drawings in -1..1 there, 0..1 here), and the UNet with and without them."""
    g, (unet, rest) = golden.tensors, _unet_and_rest(golden)
    if "pose_net.scale" in rest:
        rest["pose_net.scale"] = torch.full_like(rest["pose_net.scale"], 1.128)
    network = pose_network_of(rest, golden.name).network
    adapter = MimicMotionAdapter.of(network, (g["pose_image"] + 1) / 2)
    yield Finding("pose_latents", relative(adapter.features, g["pose_latents"]), EVALUATION)
    x, c_noise, token, vector = unet_inputs(g, unet.config.vector_channels)
    frames = g["sample"].shape[1]
    made = unet(x, c_noise, token, vector, frames, adapters=[(), (adapter,)]).unflatten(0, (2, 1, frames))
    for name, found in zip(("unet_uncond_eps5", "unet_cond_eps5"), made, strict=True):
        yield Finding(name, relative(found, g[name]), EVALUATION)


def character_findings(golden: Golden) -> Iterator[Finding]:
    """A long clip of MimicMotion or ControlNeXt in several windows, from a given start noise."""
    g, (unet, rest) = golden.tensors, _unet_and_rest(golden)
    if "pose_net.scale" in rest:
        rest["pose_net.scale"] = torch.full_like(rest["pose_net.scale"], 1.128)
    rest = {key.removeprefix("controlnext."): value for key, value in rest.items()}
    network = pose_network_of(rest, golden.name)
    drawings = g["pose_image"] / 2 + 0.5 if "pose_image" in g else g["control_image"]
    size, overlap = (int(golden.settings[name]) for name in ("tile", "overlap"))
    numbers = (6.0, 127.0, 0.0) if network.kind == "mimicmotion" else tuple(g["numbers_fed"][0].tolist())
    condition = svd.Condition(g["token"], g["latent"], motion_vector(*numbers))
    noise = g["noise"][0]
    if len(noise) < len(drawings):
        noise = noise.repeat(-(-len(drawings) // len(noise)), 1, 1, 1)[: len(drawings)]
    # MimicMotion's own guidance is constant and no setting of the recording; ControlNeXt's is `low`.
    guidance = DEFAULTS["mimicmotion"].guidance if network.kind == "mimicmotion" else float(golden.settings["low"])
    states = []
    made = sample_character(
        _bare(unet).denoise, noise, g["sigmas"], guidance, condition,
        [AdapterControl(pose_adapter(network, drawings)), AnchoredWindows(size, overlap, network.kind)],
        on_step=lambda step: states.append(step.x),
    )  # fmt: skip
    if "after_step_1" in g:
        yield Finding("after_step_1", relative(states[0], g["after_step_1"][0]), SAMPLING)
    yield Finding("samples_z", relative(made, g["samples_z"][0]), SAMPLING)


def video_reader_findings(golden: Golden) -> Iterator[Finding]:
    """DepthCrafter and NormalCrafter: one evaluation with a token per frame, or a long video in windows."""
    g, (unet, _), kind = golden.tensors, _unet_and_rest(golden), golden.settings["kind"]
    if "samples_z" not in g:
        x, c_noise, token, vector = unet_inputs(g, unet.config.vector_channels)
        found = unet(x, c_noise, token, vector, g["sample"].shape[1]).unflatten(0, g["sample"].shape[:2])
        yield Finding("unet_eps5", relative(found, g["unet_eps5"]), EVALUATION)
        return
    depth = kind == "depthcrafter"
    size, overlap = (int(golden.settings[name]) for name in ("tile", "overlap"))
    settings = VideoDepthSettings(kind, window=size, overlap=overlap, steps=int(golden.settings["steps"]))
    model = _bare(unet)
    settings = settings.resolve(model.config)
    vector = motion_vector(7, 127, 0.02 if depth else 0.0)
    condition = svd.Condition(g["tokens"][:, None], g["latents"], vector)
    if depth:
        made = sample_depth(model, condition, settings, noise=g["noise"][0])
    else:
        made = sample_normals(model, condition, settings)
    yield Finding("samples_z", relative(made, g["samples_z"][0]), SAMPLING)


def _bare(unet: UNet) -> svd.SVDModel:
    return svd.SVDModel(unet, None, None, SVDConfig(unet.config, None, None))


def _unet_and_rest(golden: Golden) -> tuple[UNet, dict[str, Tensor]]:
    """Return the UNet of a golden file by the rule, and the tensors that are no part of a plain UNet."""
    weights = fill_by_rule(golden.shapes, int(golden.settings["seed"]))
    plain = {key for key in weights if key.startswith("unet.") and "qkv_merge" not in key}
    unet = rule_unet({key.removeprefix("unet."): weights[key] for key in plain}, int(golden.settings["head_channels"]))
    return unet, {key: value for key, value in weights.items() if key not in plain}


def inbetween_findings(golden: Golden) -> Iterator[Finding]:
    """Generative Inbetweening: both views of one state, their mean and their ramp, with weights through a file."""
    g = golden.tensors
    weights = fill_by_rule(golden.shapes, int(golden.settings["seed"]))
    parts = {name: {k[len(name) + 1 :]: v for k, v in weights.items() if k.startswith(f"{name}.")} for name in
             ("unet", "finetuned")}  # fmt: skip
    unet = rule_unet(parts["unet"], int(golden.settings["head_channels"]))
    made = motion_differences(parts["finetuned"], parts["unet"], golden.name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backward_motion.safetensors"
        save_file(made, path)
        network = load_backward_motion(path, unet.config)
    model, sigma, x = _bare(unet), float(g["sigma"]), g["x"][0]
    vector = torch.cat([sinusoidal_embedding(value, 256) for value in g["added_time_ids"][0][:, None]], dim=1)
    start, end = (svd.Condition(g[f"token_{end}"], g[f"latent_{end}"][0], vector) for end in ("start", "end"))

    def estimate(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
        return model.denoise(x, sigma, inputs.condition)

    def velocity(estimate: Tensor) -> Tensor:
        return ((x / (sigma**2 + 1) - estimate) * ((sigma**2 + 1) ** 0.5 / sigma))[None]

    views: list[Tensor] = []

    def recorded(x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
        views.append(estimate(x, sigma, inputs))
        return views[-1]

    inputs = Inputs(start, None, Guidance(1.0))
    run = Run(x / sigma, (sigma, 0.0), inputs, lambda: torch.zeros_like(x), (sigma, 0.0))
    motion = LoadedBackwardMotion(network, golden.name)
    given = {"end": end, "first": start.latent, "last": end.latent, "weights": motion}
    half = FineTunedBetween(**given).wrap(run, recorded)(x, sigma, inputs)
    ramp = FineTunedBetween(**given, ramp=True).wrap(run, estimate)(x, sigma, inputs)
    found = {"v_forward": views[0], "v_backward": views[1].flip(0), "v_half": half, "v_ramp": ramp}
    for name, made in found.items():
        yield Finding(name, relative(velocity(made), g[name]), EVALUATION)


KINDS: dict[str, Callable[[Golden], Iterator[Finding]]] = {
    "sv3d_u": orbit_findings,
    "sv3d_p": orbit_findings,
    "sv3d_prepare": preparation_findings,
    "svdcn": controlnet_findings,
    "motionctrl": motionctrl_findings,
    "cameractrl": cameractrl_findings,
    "controlnext": lambda golden: (character_findings if "samples_z" in golden.tensors else controlnext_findings)(
        golden
    ),
    "mimic": lambda golden: (character_findings if "samples_z" in golden.tensors else mimicmotion_findings)(golden),
    "depthcrafter": video_reader_findings,
    "normalcrafter": video_reader_findings,
    "generative_inbetweening": inbetween_findings,
}


def findings_of(path: Path) -> list[Finding]:
    """Return the findings of one golden file; ValueError for a kind that nothing here runs."""
    if path.suffix == ".json":
        wrong = wrong_plans(json.loads(path.read_text(encoding="utf-8")))
        return [Finding(plan, float(count), 0.0) for plan, count in wrong.items()]
    golden = read_golden(path)
    kind = golden.settings.get("kind")
    if kind not in KINDS:
        raise ValueError(f"{path.name} is of kind {kind!r}; known are {', '.join(KINDS)}")
    return list(KINDS[kind](golden))


def main(paths: list[str]) -> int:
    """Print every finding; return 1 where one is above its limit, 2 without files."""
    if not paths:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    torch.manual_seed(0)
    failed, largest = 0, 0.0
    for path in map(Path, paths):
        try:
            findings = findings_of(path)
        except Exception as error:  # the files after it are still run
            failed += 1
            print(f"{path.stem:24} FAILED: {type(error).__name__}: {error}")
            continue
        for tensor, error, limit in findings:
            failed += not error <= limit
            largest = max(largest, error)
            print(f"{path.stem:24} {tensor:28} {error:.2e} {'ok' if error <= limit else f'ABOVE {limit:.0e}'}")
    print(f"largest error {largest:.2e}, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
