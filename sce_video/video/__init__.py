"""One media file: its container, what it is, its packets, and its frames."""
