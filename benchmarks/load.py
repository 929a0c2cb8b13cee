"""How long does loading take, and how much memory, beside diffusers and ComfyUI? Real size, files that are holes."""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from . import peers, rss
from .options import DTYPES, Setting
from .results import Report
from .subjects import COMFY, DIFFUSERS, OURS
from .weights import PREFIXES, SCALES, hollow, metadata, stored_shapes

CPU, GPU = ("real", "25x576x1024"), ("real", "25x576x1024")
COLUMNS = ["implementation", "precision", "load s", "of diffusers' load", "load and read s", "of diffusers' time"]
COLUMNS += ["peak / file", "peak MiB"]
AGAIN = "ours, second load"


def run(chosen: Setting) -> Report:
    """Every load in a process of its own, in turn; then every weight is read once, so that laziness wins nothing."""
    report = chosen.report("load", f"Loading a {chosen.scale} model onto the CPU", COLUMNS)
    report.unit = "seconds to load and read"
    file, folder = _files(chosen.scale, chosen.work)
    size = file.stat().st_size
    people = [OURS, AGAIN, DIFFUSERS, *([COMFY] if peers.comfy_folder() else [])]
    for precision in ("float32", "float16"):
        # ComfyUI picks its precision itself: it is shown once.
        names = people if precision == "float32" else people[:3]
        found: dict[str, list[dict]] = {name: [] for name in names}
        for _ in range(min(chosen.rounds, 5)):
            for name in names:
                source = folder if name == DIFFUSERS else file
                _into_page_cache(source)
                found[name].append(rss.in_child("load", "--child", name, str(source), "--dtype", precision))
        _rows(report, found, precision, size, chosen.clock)
    report.notes += [
        f"file of {size / 2**30:.2f} GiB that is a hole, so the loader is measured and not the disk; diffusers reads "
        "the same model from its own folder layout; files are in the page cache",
        f"{AGAIN}: while a model of the same file, whose weights were read before, is in use; its memory is shared",
        "peak: resident memory above that of the process after its imports, mapped pages included",
    ]
    return report


def _rows(report: Report, found: dict[str, list[dict]], precision: str, size: int, clock: str) -> None:
    whole: dict[str, float] = {}
    alone: dict[str, float] = {}
    for name, runs in found.items():
        errors = [run["error"] for run in runs if "error" in run]
        if errors:
            report.notes.append(f"{name} in {precision} failed: {errors[0]}")
            continue
        load, read = (statistics.median(run[part][clock] for run in runs) for part in ("load", "read"))
        alone[name], whole[name] = load, load + read
        peak = statistics.median(run["bytes"] for run in runs)
        row = {"implementation": name, "precision": precision, "load s": load, "load and read s": load + read}
        row |= {"peak / file": f"{peak / size:.2f}", "peak MiB": f"{peak / 2**20:,.0f}"}
        report.rows.append(row)
        report.bars.append((f"{name} {precision}", load + read))
    for row in report.rows:
        if row["precision"] == precision and DIFFUSERS in whole:
            name = row["implementation"]
            row["of diffusers' load"] = f"{alone[name] / alone[DIFFUSERS]:.2f}"
            row["of diffusers' time"] = f"{whole[name] / whole[DIFFUSERS]:.2f}"


def _into_page_cache(source: Path) -> None:
    """Read files to their end: whoever came after a loader that pushed them out of memory would pay for it."""
    block = memoryview(bytearray(2**24))
    for path in [source] if source.is_file() else source.rglob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass


def _files(scale: str, work: Path) -> tuple[Path, Path]:
    """The single file and the diffusers folder of one model."""
    config = SCALES[scale].config()
    file, folder = work / f"{scale}-hollow.safetensors", work / f"{scale}-hollow-folder"
    if file.exists() and (folder / "image_encoder").exists():
        return file, folder
    import transformers

    shapes, (encoder, first_stage) = stored_shapes(config), (PREFIXES["encoder"], PREFIXES["decoder"])
    # As the official files do, which hold the encoder twice: ComfyUI reads the one, we the other.
    start = f"{encoder}encoder."
    twice = {first_stage + key[len(encoder) :]: shape for key, shape in shapes.items() if key.startswith(start)}
    hollow(file, shapes | twice, metadata(config))
    with torch.device("meta"):
        tower = transformers.CLIPVisionModelWithProjection(peers.tower_settings(config))
    parts = {"unet": peers.empty_unet(config), "vae": peers.empty_vae(config), "image_encoder": tower}
    for name, network in parts.items():
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        stem = "model" if name == "image_encoder" else "diffusion_pytorch_model"
        hollow(folder / name / f"{stem}.safetensors", shapes, {"format": "pt"})
        if name == "image_encoder":
            network.config.save_pretrained(folder / name)
        else:
            network.save_config(folder / name)
    return file, folder


def _loader(name: str, path: str, dtype: torch.dtype):
    """A callable that gives the networks; what it imports is imported before."""
    if name in (OURS, AGAIN):
        import svd_core as svd

        def load():
            model = svd.load_model(path, dtype=dtype)
            return [model.unet, model.vae, model.image_encoder]
    elif name == DIFFUSERS:
        import diffusers
        import transformers

        unet, vae = diffusers.UNetSpatioTemporalConditionModel, diffusers.AutoencoderKLTemporalDecoder
        tower = transformers.CLIPVisionModelWithProjection

        def load():
            return [
                unet.from_pretrained(path, subfolder="unet", torch_dtype=dtype),
                vae.from_pretrained(path, subfolder="vae", torch_dtype=dtype),
                tower.from_pretrained(path, subfolder="image_encoder", dtype=dtype),
            ]
    else:
        peers.import_comfy(torch.device("cpu"))
        import comfy.sd

        def load():
            wanted = {"output_clip": False, "output_clipvision": True}
            patcher, _, vae, tower = comfy.sd.load_checkpoint_guess_config(path, **wanted)[:4]
            return [patcher.model, vae.first_stage_model, tower.model]

    return load


def _read(networks: list[torch.nn.Module]) -> None:
    for network in networks:
        for parameter in network.parameters():
            parameter.view(-1).max()


@torch.no_grad()
def main() -> None:
    """A child process: one load, as JSON."""
    made = argparse.ArgumentParser()
    made.add_argument("--child", required=True)
    made.add_argument("path")
    made.add_argument("--dtype", default="float32")
    given = made.parse_args()
    load = _loader(given.child, given.path, DTYPES[given.dtype])
    in_use = load() if given.child == AGAIN else []
    _read(in_use)
    rss.reset_peak()
    before = rss.resident()
    wall, own = time.perf_counter(), time.process_time()
    networks = load()
    middle = time.perf_counter(), time.process_time()
    _read(networks)
    end = time.perf_counter(), time.process_time()
    found = {
        "load": {"wall": middle[0] - wall, "cpu": middle[1] - own},
        "read": {"wall": end[0] - middle[0], "cpu": end[1] - middle[1]},
        "bytes": rss.peak() - before,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
