"""The networks: UNet, autoencoder, image tower. They know tensors and nothing of files, samplers or hosts."""
