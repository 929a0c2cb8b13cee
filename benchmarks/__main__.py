"""Measure one question with `python -m benchmarks QUESTION`, or all of them with `all`, which writes RESULTS.md.

`python -m benchmarks compare OLD NEW` compares two files of counts.

QUESTION: counts, unet, decode, clip, kernels, load, memory_caps, half_precision, ablation, approximate, batch_losses,
batch_rows, startup, growth. If COMFYUI_DIR names a checkout of ComfyUI with its requirements installed, its networks
are measured too.
"""

import gc
import importlib
import sys

from . import compare, results
from .options import parser, setting


def main() -> int:
    """Run the given questions and return the number of those that failed."""
    if sys.argv[1:2] == ["compare"]:
        return compare.main(sys.argv[2:])
    made = parser(__doc__)
    made.add_argument("question", choices=("all", *results.ORDER))
    given = made.parse_args()
    failed = 0
    for name in results.ORDER if given.question == "all" else (given.question,):
        module = importlib.import_module(f".{name}", __package__)
        try:
            module.run(setting(given, name, module.CPU, module.GPU)).write(given.output)
        except (Exception, SystemExit) as error:
            if given.question != "all":
                raise
            print(f"{name} was not measured: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed += 1
        gc.collect()
    if given.output == results.HERE / "results":
        results.collect(given.output)
    return failed


if __name__ == "__main__":
    sys.exit(main())
