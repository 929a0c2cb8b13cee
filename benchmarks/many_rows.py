"""The part of `batch_rows` that runs in a process of its own, with the package of any checkout: FOLDER WORK ROWS."""

import inspect
import json
import statistics
import sys
import time
from pathlib import Path

from PIL import Image

PICTURES = 1000
"""Different pictures that the rows share."""

SAVES = 50
"""Last saves of a run, which are timed one by one; the entries before them are made without a file."""


def measure(folder: Path, rows: int) -> dict[str, float]:
    """Plan a batch of `rows` rows, mark all of them as done, and plan it again."""
    from svd_core.batch import Manifest, ModelSpec, plan_jobs, read_rows

    made = folder / "made"
    made.mkdir(parents=True)
    for index in range(PICTURES):
        Image.new("RGB", (64, 64), (index % 256, index // 256, 7)).save(folder / f"{index}.png")
    lines = [f"{index % PICTURES}.png,clip{index:06},{index}" for index in range(rows)]
    table = folder / "rows.csv"
    table.write_text("\n".join(["image,name,seed", *lines]), encoding="utf-8")
    listing = "listed" in inspect.signature(plan_jobs).parameters

    def plan(manifest: Manifest) -> list:
        more = {"listed": manifest.clips} if listing else {}
        return plan_jobs(read_rows(table), ModelSpec("nano"), made, ".mp4", **more)

    start = time.perf_counter()
    manifest = Manifest(made)
    jobs = plan(manifest)
    planned = time.perf_counter() - start
    saves = []
    for job in jobs:
        Path(job.output).write_bytes(b"0")
    for job in jobs[:-SAVES]:
        manifest._set(job, "done", 1, 1.0)
    for job in jobs[-SAVES:]:
        begin = time.perf_counter()
        manifest.done(job, 1, 1.0)
        saves.append(time.perf_counter() - begin)
    start = time.perf_counter()
    manifest = Manifest(made)
    left = manifest.remaining(plan(manifest))
    resumed = time.perf_counter() - start
    if left:
        raise RuntimeError(f"{len(left)} of {rows} finished clips would be made again")
    return {"plan": planned, "resume": resumed, "save": 1000 * statistics.median(saves)}


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    print(json.dumps(measure(Path(sys.argv[2]), int(sys.argv[3]))))
