"""Measurements side by side with diffusers and ComfyUI, one module per question. Not part of the shipped package."""
