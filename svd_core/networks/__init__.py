"""The networks of Stable Video Diffusion: UNet, autoencoder and image encoder, as plain tensors in and out.

Networks read no files and import no sampler and no host. The attribute names are the keys of checkpoint files.
"""
