"""Pictures inside pages."""

from __future__ import annotations

import base64
import io

import numpy as np


def png(image: np.ndarray) -> str:
    """A picture with few colours as a small PNG, base64.

    Args:
        image: (height, width, 3) uint8.
    """
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image)).quantize(32)
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
