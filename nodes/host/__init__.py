"""Everything that uses ComfyUI: its models, patches, folders, progress and films."""
