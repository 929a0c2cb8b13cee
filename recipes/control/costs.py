"""The table of what the controls cost at the size of SVD-XT, for the docs."""

from pathlib import Path

from svd_core.networks.config import UNetConfig
from svd_core.plan.control_costs import COLUMNS, cost_rows, method_costs
from svd_core.sampling.schedules import karras_sigmas

from .sheet import replace_between

BEGIN, END = "<!-- costs: begin -->", "<!-- costs: end -->"
FRAMES, WIDTH, HEIGHT, STEPS = 25, 1024, 576, 25


def write_costs(page: Path) -> None:
    """Replace the text between the markers of a page with the table."""
    costs = method_costs(UNetConfig(), FRAMES, WIDTH, HEIGHT, karras_sigmas(STEPS))
    lines = [COLUMNS, ("---",) * len(COLUMNS), *cost_rows(costs)]
    how = (
        f"{FRAMES} frames of {WIDTH}x{HEIGHT}, {STEPS} steps: {STEPS} conditional and {STEPS} unconditional passes "
        "without a control. The table counts pairs of passes."
    )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    replace_between(page, BEGIN, END, f"{how}\n\n{table}")


if __name__ == "__main__":
    from .sheet import DOCS

    write_costs(DOCS / "control.md")
