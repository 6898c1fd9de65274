"""What is in a cohort's files: rows of finished runs as Parquet, and named arrays as safetensors. No pickle."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike

from experiments.store.manifest import SCHEMA_VERSION

# A sweep's own run ids are 16 hexadecimal digits. They become parts of file names and links: none may lead elsewhere.
RUN_ID_TEXT = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
VERSION_KEY = "mlp_lm.schema_version"
METADATA_KEY = "mlp_lm"  # a single key: safetensors writes several in random order, and equal content is equal bytes
LENGTH_BYTES, MAX_HEADER_BYTES = 8, 100_000_000  # Of the file format: a header's length comes first.

RUN_ID = pa.field("run_id", pa.string())
PLACE_FIELDS = (  # added to every row: where its weights are, and their digest (null where none were kept)
    pa.field("cohort_id", pa.string()),
    pa.field("weights_index", pa.int64()),
    pa.field("weights_sha256", pa.string()),
)
BASE_SCHEMA = pa.schema([RUN_ID, *PLACE_FIELDS])

Rows = Sequence[Mapping[str, Any]]


def cohort_table(cohort_id: str, rows: Rows, digests: Sequence[str | None], schema: pa.Schema | None) -> pa.Table:
    """One row a run, with its place in the store. Types are those that `schema` declares, or inferred."""
    run_ids = [row.get("run_id") for row in rows]
    if not run_ids:
        raise ValueError("a cohort needs at least one row")
    if not all(map(_is_run_id, run_ids)) or len(set(run_ids)) < len(run_ids):
        shown = ", ".join(repr(run_id)[:80] for run_id in run_ids[:5])
        raise ValueError(f"every row needs a run_id of its own, at most 64 letters, digits, - and _, got {shown}")
    declared = {field.name: field.type for field in schema or ()} | {"run_id": RUN_ID.type}
    names = dict.fromkeys([*declared, *(name for row in rows for name in row)])
    if taken := names.keys() & {field.name for field in PLACE_FIELDS}:
        raise ValueError(f"columns {sorted(taken)} are the store's own: give them other names")
    columns = {name: _column(name, rows, declared.get(name)) for name in names}
    places = pa.table([[cohort_id] * len(rows), range(len(rows)), digests], schema=pa.schema(PLACE_FIELDS))
    table = pa.table(columns | dict(zip(places.column_names, places.columns, strict=True)))
    return table.replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION)})


def encode_table(table: pa.Table) -> bytes:
    """The content of a Parquet file with page checksums."""
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    except pa.ArrowException as error:
        raise ValueError(f"these rows cannot be stored: {error}") from None
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode_table(data: bytes, columns: Sequence[str] | None) -> pa.Table:
    """The table, or only the basic columns and `columns`; raises an Arrow or OS error where damaged.

    A run id that `cohort_table` would have refused is damage as well.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    # One thread: Arrow's own pool may still run when the process wants to end.
    table = file.read(None if columns is None else [*BASE_SCHEMA.names, *columns], use_threads=False)
    if not all(map(_is_run_id, table["run_id"].to_pylist())):
        raise pa.ArrowInvalid("not a run id")
    return table


def unite(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows, null where a table lacks a column. Of several rows with one run id the first stays."""
    table = pa.concat_tables([BASE_SCHEMA.empty_table(), *tables], promote_options="permissive")
    first: dict[str, int] = {}
    for index, run_id in enumerate(table["run_id"].to_pylist()):
        first.setdefault(run_id, index)
    return table if len(first) == len(table) else table.take(list(first.values()))


def _is_run_id(value: Any) -> bool:
    return isinstance(value, str) and RUN_ID_TEXT.fullmatch(value) is not None


def _column(name: str, rows: Rows, declared: pa.DataType | None) -> pa.Array:
    try:
        inferred = pa.array([row.get(name) for row in rows])
        # Not pa.array(values, declared), which cuts 1.5 down to an int64 of 1 in silence.
        return inferred if declared is None else inferred.cast(declared)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ValueError(f"column {name!r} cannot be stored: {error}") from None


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
