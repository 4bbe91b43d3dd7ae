"""Read the pixels of a Pillow image where they lie, without a copy.

Pillow hands them out by the Arrow C data interface (https://arrow.apache.org/docs/format/CDataInterface.html): two
structures, of which the second has the address of the pixels. A copy of a photo is not dear in itself; the fresh memory
that it takes is, because the system clears each page of it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS = 4
"""Bytes that Pillow holds for a pixel of an RGB image; the fourth means nothing."""


class _ArrowArray(ctypes.Structure):
    """`struct ArrowArray` of the interface."""


_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]


@contextlib.contextmanager
def pixel_memory(image: Image, box: tuple[int, int, int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    """A box of an RGB image as uint8 [height, width, 4], to read within the block only.

    Pillow before 11.2.1 gives no address, nor does any for an image of more than 16 MB: then the box is copied.
    """
    left, top, right, bottom = box
    try:
        capsules = image.__arrow_c_array__()
    except (AttributeError, ValueError):
        part = image.crop(box)
        copy = bytearray(part.tobytes("raw", "RGBX"))
        yield np.frombuffer(copy, np.uint8).reshape(part.height, part.width, CHANNELS)
        return
    whole = _view(capsules[1], image.width, image.height)
    try:
        yield whole[top:bottom, left:right]
    finally:
        del whole, capsules  # the second capsule keeps the pixels until here


def _view(capsule: object, width: int, height: int) -> npt.NDArray[np.uint8]:
    address = _get_pointer(capsule, b"arrow_array")
    array = _ArrowArray.from_address(address)
    values = array.children[0].contents if array.n_children else array
    assert values.length == width * height * CHANNELS
    memory = (ctypes.c_uint8 * values.length).from_address(values.buffers[1])
    return np.frombuffer(memory, np.uint8).reshape(height, width, CHANNELS)


def _get_pointer(capsule: object, name: bytes) -> int:
    function = ctypes.pythonapi.PyCapsule_GetPointer
    function.restype, function.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    pointer: int = function(capsule, name)
    return pointer
