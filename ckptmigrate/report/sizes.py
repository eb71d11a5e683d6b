"""Sizes for people."""


def format_bytes(size_bytes: int) -> str:
    """A size for people: ``392.0 KiB``; exact below 1 KiB."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":  # the factor between units
            return f"{size_bytes} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError(size_bytes)
