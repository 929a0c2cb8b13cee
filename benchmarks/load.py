"""How long does loading take and how much memory does it need, beside diffusers, ComfyUI and an older checkout?"""

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path

import torch

from svd_core.checkpoints.convert import convert

from . import peers, rss
from .options import DTYPES, Setting
from .results import Report
from .subjects import COMFY, DIFFUSERS, OURS
from .weights import SCALES, dense

CPU, GPU = ("real", "25x576x1024"), ("real", "25x576x1024")
COLUMNS = ["implementation", "precision", "load s", "of diffusers' load", "load and read s", "of diffusers' time"]
COLUMNS += ["peak / file", "peak MiB"]
BEFORE = "before"


def run(chosen: Setting) -> Report:
    """Run every load in its own process, in turn, then read every weight once, so that lazy loading gains nothing.

    The file has the type `--dtype` and is loaded in both float32 and float16. It is dense, because pages of sparse
    files behave differently, and it is removed at the end.
    """
    report = chosen.report("load", f"Loading a {chosen.scale} model onto the CPU", COLUMNS)
    report.unit = "seconds to load and read"
    stored = str(chosen.dtype).removeprefix("torch.")
    file, folder = chosen.work / f"{chosen.scale}-{stored}.safetensors", chosen.work / f"{chosen.scale}-{stored}"
    names = [OURS, *([BEFORE] if chosen.before else []), DIFFUSERS, *([COMFY] if peers.comfy_folder() else [])]
    try:
        dense(file, SCALES[chosen.scale].config(), chosen.dtype)
        if not folder.exists():
            convert(file, folder)
        size = file.stat().st_size
        for precision in (stored, "float16" if stored == "float32" else "float32"):
            # ComfyUI chooses its precision itself, so it appears once.
            loaders = [name for name in names if name != COMFY or precision == stored]
            found: dict[str, list[dict]] = {name: [] for name in loaders}
            for _ in range(min(chosen.rounds, 5)):
                for name in loaders:
                    source = folder if name == DIFFUSERS else file
                    _into_page_cache(source)
                    words = ("--child", OURS if name == BEFORE else name, str(source), "--dtype", precision)
                    found[name].append(rss.in_child("load", *words, root=chosen.before if name == BEFORE else rss.ROOT))
            _rows(report, found, precision, size, chosen.clock)
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    report.notes += [
        f"file of {size / 2**30:.2f} GiB in {stored}, dense random numbers, in the page cache; diffusers reads the "
        "same tensors from its folder layout",
        "peak: resident memory, mapped pages included, above that after the imports",
    ]
    if chosen.before:
        report.notes.append(f"{BEFORE}: the same load by an older checkout of this project")
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
    """Read files completely, so that every loader finds them in the page cache."""
    block = memoryview(bytearray(2**24))
    for path in [source] if source.is_file() else source.rglob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass


def _loader(name: str, path: str, dtype: torch.dtype):
    """Return a function that loads the networks; its imports are done here."""
    if name == OURS:
        import svd_core as svd

        def load():
            model = svd.load_model(path, dtype=dtype)
            return [model.unet, model.vae, model.image_encoder]
    elif name == DIFFUSERS:
        import diffusers
        import transformers

        unet, vae = diffusers.UNetSpatioTemporalConditionModel, diffusers.AutoencoderKLTemporalDecoder
        encoder = transformers.CLIPVisionModelWithProjection

        def load():
            return [
                unet.from_pretrained(path, subfolder="unet", torch_dtype=dtype),
                vae.from_pretrained(path, subfolder="vae", torch_dtype=dtype),
                encoder.from_pretrained(path, subfolder="image_encoder", dtype=dtype),
            ]
    else:
        peers.import_comfy(torch.device("cpu"))
        import comfy.sd

        def load():
            wanted = {"output_clip": False, "output_clipvision": True}
            patcher, _, vae, encoder = comfy.sd.load_checkpoint_guess_config(path, **wanted)[:4]
            return [patcher.model, vae.first_stage_model, encoder.model]

    return load


def _read(networks: list[torch.nn.Module]) -> None:
    for network in networks:
        for parameter in network.parameters():
            parameter.view(-1).max()


@torch.no_grad()
def main() -> None:
    """Print the times and memory of one load as JSON; runs in a child process."""
    made = argparse.ArgumentParser()
    made.add_argument("--child", required=True)
    made.add_argument("path")
    made.add_argument("--dtype", default="float32")
    given = made.parse_args()
    load = _loader(given.child, given.path, DTYPES[given.dtype])
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
