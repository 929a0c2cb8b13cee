"""SVD Reel, a ComfyUI node pack: turns a still image into a short clip with Stable Video Diffusion."""

# Test runners import a root __init__.py without a package; then there is nothing to register.
if __package__:
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    # Scripts of the drawn widgets in web/js, help pages in web/docs.
    WEB_DIRECTORY = "./web"

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
