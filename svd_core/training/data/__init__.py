"""Training data: sources of footage, clips cut from it, labels, the cache of encoded clips, samples of it."""
