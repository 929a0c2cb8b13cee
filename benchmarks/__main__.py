"""`python -m benchmarks QUESTION` measures one, `all` measures everything and writes RESULTS.md.

QUESTION: unet, decode, clip, kernels, load, memory_caps, half_precision, ablation, approximate, batch_losses. With
COMFYUI_DIR set to a checkout, and its requirements installed, ComfyUI's own networks are measured too.
"""

import gc
import importlib
import sys

from . import results
from .options import parser, setting


def main() -> int:
    """Run the questions asked for; the exit code counts those that broke."""
    made = parser(__doc__)
    made.add_argument("question", choices=("all", *results.ORDER))
    given = made.parse_args()
    broken = 0
    for name in results.ORDER if given.question == "all" else (given.question,):
        module = importlib.import_module(f".{name}", __package__)
        try:
            module.run(setting(given, name, module.CPU, module.GPU)).write(given.output)
        except (Exception, SystemExit) as error:
            if given.question != "all":
                raise
            print(f"{name} was not measured: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            broken += 1
        gc.collect()
    if given.output == results.HERE / "results":
        results.collect(given.output)
    return broken


if __name__ == "__main__":
    sys.exit(main())
