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
    """Run every load in its own process, then read every weight once, so that lazy loading gains nothing.

    The file has the type `--dtype`; it is loaded as it is, and a float32 file also as float16. It is dense, because
    pages of sparse files behave differently. Only one file lies in the work folder while loads are measured, and
    nothing is left there at the end.
    """
    report = chosen.report("load", f"Loading a {chosen.scale} model onto the CPU", COLUMNS)
    report.unit = "seconds to load and read"
    stored = str(chosen.dtype).removeprefix("torch.")
    precisions = tuple(dict.fromkeys((stored, "float16")))
    file, folder = chosen.work / f"{chosen.scale}-{stored}.safetensors", chosen.work / f"{chosen.scale}-{stored}"
    names = [OURS, *([BEFORE] if chosen.before else []), *([COMFY] if peers.comfy_folder() else [])]
    try:
        dense(file, SCALES[chosen.scale].config(), chosen.dtype)
        size = file.stat().st_size
        found = _measured(names, file, precisions, chosen)
        convert(file, folder)
        file.unlink()
        found |= _measured([DIFFUSERS], folder, precisions, chosen)
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    for precision in precisions:
        # ComfyUI chooses its precision itself, so it appears once.
        shown = [name for name in (*names, DIFFUSERS) if name != COMFY or precision == stored]
        _rows(report, {name: found[name, precision] for name in shown}, precision, size, chosen.clock)
    report.notes += [
        f"file of {size / 2**30:.2f} GiB in {stored}, dense random numbers, in the page cache; diffusers reads the "
        "same tensors from its folder layout",
        "peak: resident memory, mapped pages included, above that after the imports",
    ]
    if chosen.before:
        report.notes.append(f"{BEFORE}: the same load by an older checkout of this project")
    return report


def _measured(
    names: list[str], source: Path, precisions: tuple[str, ...], chosen: Setting
) -> dict[tuple[str, str], list[dict]]:
    """Return what the children print for every implementation and precision, in rounds A B C A B C."""
    found: dict[tuple[str, str], list[dict]] = {(name, precision): [] for name in names for precision in precisions}
    _into_page_cache(source)
    for precision in precisions:
        for _ in range(min(chosen.rounds, 5)):
            for name in names:
                words = ("--child", OURS if name == BEFORE else name, str(source), "--dtype", precision)
                root = chosen.before if name == BEFORE else rss.ROOT
                found[name, precision].append(rss.in_child("load", *words, root=root))
    return found


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
        from svd_core import load_model

        def load():
            model = load_model(path, dtype=dtype)
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
