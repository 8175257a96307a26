"""Run by ``vet`` in a process of its own: decode a whole Parquet or Arrow file under a memory cap and report its true size.

Started as ``python -I -S vet_child.py SITE KIND FD LIMITS``; the file comes as an inherited descriptor. Writes one JSON line.
"""

import json
import os
import resource
import sys
from typing import Any

#: Rows decoded at a time, so that what the footer claims would take about so many bytes. The footer may lie.
BATCH_BYTES, MIN_ROWS, MAX_ROWS = 32 << 20, 16, 4096


def main() -> None:
    """Cap memory and processor time first, then open what may be hostile."""
    site, kind, fd, packed = sys.argv[1:5]
    limits: dict[str, Any] = json.loads(packed)
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"], limits["memory_bytes"]))
    seconds = int(limits["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    sys.path.insert(0, site)
    handle = os.fdopen(int(fd), "rb")
    at = ["the footer"]

    def report(**facts: Any) -> None:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()

    try:
        import pyarrow as pa

        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        decoded = widest = rows = 0
        for batch in opened(handle, kind, limits, report, at):
            batch.validate(full=True)
            size = logical_bytes(batch)
            decoded += size
            rows += batch.num_rows
            widest = max(widest, size // max(1, batch.num_rows))
            if decoded > limits["decoded_bytes"]:
                return report(
                    refuse="untrusted", place=at[0], what=f"decodes to more than {limits['decoded_bytes']} bytes"
                )
            if rows > limits["rows"]:
                return report(refuse="untrusted", place=at[0], what=f"has more than {limits['rows']} rows")
            del batch
    except MemoryError:
        return report(refuse="untrusted", place=at[0], what=f"needs more than {limits['memory_bytes']} bytes to decode")
    except Refused:
        return None
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        if "malloc" in lines[0] or "realloc" in lines[0] or "out of memory" in lines[0].lower():
            return report(
                refuse="untrusted", place=at[0], what=f"needs more than {limits['memory_bytes']} bytes to decode"
            )
        return report(refuse="unreadable", place=at[0], what=lines[0][:300])
    report(rows=rows, decoded_bytes=decoded, row_bytes=widest)


class Refused(Exception):
    """Already reported."""


def opened(handle: Any, kind: str, limits: dict[str, Any], report: Any, at: list[str]) -> Any:
    """Every batch of the file, after its column names and counts were looked at; ``at`` says where it is."""
    import pyarrow as pa

    source = pa.PythonFile(handle, mode="r")
    if kind == "parquet":
        import pyarrow.parquet as pq

        file = pq.ParquetFile(
            source, pre_buffer=False, thrift_string_size_limit=64 << 20, thrift_container_size_limit=10_000_000
        )
        check(file.schema_arrow.names, file.metadata.num_columns, file.metadata.num_rows, limits, report)
        for group in range(file.num_row_groups):
            at[0] = f"row group {group + 1} of {file.num_row_groups}"
            claimed = file.metadata.row_group(group)
            rows = BATCH_BYTES * max(1, claimed.num_rows) // max(1, claimed.total_byte_size)
            size = max(MIN_ROWS, min(MAX_ROWS, rows))
            yield from file.iter_batches(batch_size=size, row_groups=[group], use_threads=False)
        return
    reader = pa.ipc.open_stream(source) if kind == "arrow-stream" else pa.ipc.open_file(source)
    check(reader.schema.names, len(reader.schema.names), 0, limits, report)
    batches = iter(reader) if kind == "arrow-stream" else map(reader.get_batch, range(reader.num_record_batches))
    for number, batch in enumerate(batches):
        at[0] = f"batch {number + 1}"
        yield batch


def check(names: list[str], leaves: int, rows: int, limits: dict[str, Any], report: Any) -> None:
    """Refuse too many columns or rows, long names, and one name twice, before any value is decoded."""
    if leaves > limits["columns"]:
        report(refuse="untrusted", place="footer", what=f"has {leaves} columns, more than {limits['columns']}")
    elif rows > limits["rows"]:
        report(refuse="untrusted", place="footer", what=f"claims {rows} rows, more than {limits['rows']}")
    elif long := [name for name in names if len(name.encode(errors="replace")) > limits["name_bytes"]]:
        report(refuse="untrusted", place="footer", what=f"has a column name of {len(long[0])} characters")
    elif len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        report(refuse="unreadable", place="footer", what=f"has two columns {twice[:40]!a}; rename one")
    else:
        return
    raise Refused


def logical_bytes(batch: Any) -> int:
    """Bytes of the values as rows would hold them: a dictionary counts once per row, views count their text."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    total = 0
    for column in batch.columns:
        kind = column.type
        if pa.types.is_dictionary(kind) and (
            pa.types.is_large_unicode(kind.value_type) or pa.types.is_unicode(kind.value_type)
        ):
            lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
            total += pc.sum(lengths).as_py() or 0
        elif pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            total += pc.sum(pc.binary_length(column.cast(pa.large_binary()))).as_py() or 0
        else:
            total += column.nbytes
    return total


if __name__ == "__main__":
    main()
