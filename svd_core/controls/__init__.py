"""Motion that the user chooses, with the base weights: camera paths, warps, and controls that impose them."""
