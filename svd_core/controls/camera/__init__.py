"""Camera paths and moves, the warps they cause, and the control that imposes them."""
