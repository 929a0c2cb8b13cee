"""Controls that steer sampling with the base weights: camera paths, drags, masks, in-betweens, loops, long clips."""
