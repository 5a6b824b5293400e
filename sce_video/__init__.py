"""sce_video: learn video representations without labels."""

__version__ = "0.1.0"
