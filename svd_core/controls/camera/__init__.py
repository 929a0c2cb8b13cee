"""Camera paths in words, the warps that they cause, and the control that imposes them on a clip."""
