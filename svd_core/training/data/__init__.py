"""What training clips are cut from: sources, labels, the cache and its samples."""
