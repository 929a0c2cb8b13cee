"""What several nodes share: inputs, clip notes, curves, previews and the host model."""
