"""All that touches ComfyUI: its models, patches, folders, progress and films."""
