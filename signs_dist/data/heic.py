"""Let Pillow decode HEIC, the photos of iPhones, by the package pillow-heif of the extra `heic`.

The package is imported at the first such photo, and never for others.
"""

from __future__ import annotations

import threading

from signs_dist.extras import how_to_install, is_installed

PILLOWS_NAME = "HEIF"
"""Pillow's name of the format, once the package has registered its decoder."""
HOW_TO_READ_HEIC = f"a HEIC photo; to read such photos, type: {how_to_install(['heic'])}"
"""Why a HEIC photo is a bad image where the extra is not installed."""

_lock = threading.Lock()


def enable_heic() -> bool:
    """Make Pillow decode HEIC in this process. Safe to call from several threads, and again.

    Returns:
        Whether it can: False if the extra is not installed.
    """
    import PIL.Image

    with _lock:
        if PILLOWS_NAME in PIL.Image.OPEN:
            return True
        if not is_installed("pillow_heif"):
            return False
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return True
