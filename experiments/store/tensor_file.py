"""Named arrays in safetensors files, read whole or one run at a time. No pickle."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike

METADATA_KEY = "mlp_lm"  # a single key: safetensors writes several in random order, and equal content is equal bytes


LENGTH_BYTES, MAX_HEADER_BYTES = 8, 100_000_000  # Of the file format: a header's length comes first.


def as_arrays(tensors: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Little-endian arrays in C order, the only kind that the file format knows."""
    arrays = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    return {name: array.astype(array.dtype.newbyteorder("<"), copy=False) for name, array in arrays.items()}


def encode_tensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> bytes:
    """The content of a safetensors file; `metadata` must be expressible in JSON."""
    text = json.dumps(metadata, sort_keys=True)
    if "__metadata__" in arrays:
        raise ValueError("a tensor may not be named __metadata__: the file format keeps that name to itself")
    try:
        return safetensors.numpy.save(dict(arrays), {METADATA_KEY: text})
    except safetensors.SafetensorError as error:
        raise ValueError(f"these tensors cannot be stored: {error}") from None


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays of a file, and its metadata."""
    with safetensors.safe_open(path, "np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, json.loads(file.metadata()[METADATA_KEY])


def read_metadata(read: Callable[[int], bytes]) -> dict[str, Any]:
    """The metadata alone; `read(n)` gives the first n bytes of a file. Raises almost anything where it is damaged."""
    length = int.from_bytes(read(LENGTH_BYTES), "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(read(LENGTH_BYTES + length)[LENGTH_BYTES:])
    metadata: dict[str, Any] = json.loads(header["__metadata__"][METADATA_KEY])
    return metadata


def read_run(path: Path, index: int) -> dict[str, np.ndarray]:
    """Entry `index` of the leading axis of every array, without reading the others."""
    with safetensors.safe_open(path, "np") as file:
        return {name: np.asarray(file.get_slice(name)[index]) for name in file.keys()}  # noqa: SIM118


def tensors_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
