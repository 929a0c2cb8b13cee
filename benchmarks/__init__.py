"""Measurements beside diffusers and ComfyUI, one module per question; not shipped. See RESULTS.md and __main__.py."""
