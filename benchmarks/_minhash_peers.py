"""The peers' side of the MinHash benchmark, run by the Python of an environment that has them (nothing of ours there).

``python _minhash_peers.py PEER ROWS.jsonl OUT.json COUNT NGRAM PERMUTATIONS BANDS THRESHOLD``: drops near-duplicates
among the first COUNT rows as the peer's own documents do it and writes which rows it dropped, and its times.
"""

import json
import re
import resource
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHUNK = 50_000


def main() -> None:
    """Run one peer."""
    peer, rows, out, *numbers = sys.argv[1:]
    count, ngram, permutations, bands = map(int, numbers[:4])
    texts = []
    with open(rows, encoding="utf-8") as lines:
        for line in lines:
            texts.append(json.loads(line)["text"])
            if len(texts) == count:
                break
    result = PEERS[peer](texts, rows, ngram, permutations, bands, float(numbers[4]))
    Path(out).write_text(json.dumps(result | {"peak_mib": peak_mib()}), encoding="utf-8")


def shingled(text: str, n: int) -> list[str]:
    """Word n-grams, the plainest way; a short text is one shingle."""
    words = text.lower().split()
    return [" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]


def rensa_streaming(
    texts: list[str], _: str, n: int, permutations: int, bands: int, threshold: float
) -> dict[str, Any]:
    """Its README's way: the streaming deduplicator. Says who repeats, not whom; no clusters."""
    from rensa import RMinHashDeduplicator

    start, cpu = time.perf_counter(), time.process_time()
    dedup = RMinHashDeduplicator(threshold=threshold, num_perm=permutations, use_lsh=True, num_bands=bands)
    kept = dedup.add_pairs((str(i), shingled(text, n)) for i, text in enumerate(texts))
    times = {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    return times | {"dropped": [i for i, stays in enumerate(kept) if not stays]}


def rensa_clusters(texts: list[str], _: str, n: int, permutations: int, bands: int, threshold: float) -> dict[str, Any]:
    """Its fastest exact-set way to clusters: batch sketches and flags, then candidates of flagged rows, union-find."""
    from rensa import RMinHash, RMinHashLSH

    native = 0.0
    start, cpu = time.perf_counter(), time.process_time()
    index = RMinHashLSH(threshold, permutations, bands)
    sketches: list[Any] = []
    for first in range(0, len(texts), CHUNK):
        tokens = [shingled(text, n) for text in texts[first : first + CHUNK]]
        began = time.perf_counter()
        some = RMinHash.from_token_sets(tokens, permutations, 42)
        index.insert_many(some, first)
        native += time.perf_counter() - began
        sketches += some
    began = time.perf_counter()
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for first in range(0, len(texts), CHUNK):
        for i, found in enumerate(index.query_all(sketches[first : first + CHUNK]), start=first):
            for other in found:
                if other > i and root(i) != root(other) and sketches[i].jaccard(sketches[other]) >= threshold:
                    low, high = sorted((root(i), root(other)))
                    parent[high] = low
    times = {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    times |= {"native": native, "clusters": time.perf_counter() - began}
    return times | {"dropped": [i for i in range(len(texts)) if root(i) != i]}


def datasketch(texts: list[str], _: str, n: int, permutations: int, bands: int, threshold: float) -> dict[str, Any]:
    """Bulk sketches, its LSH, estimated similarity of candidates, union-find."""
    from datasketch import MinHash, MinHashLSH

    start, cpu = time.perf_counter(), time.process_time()
    sketches = MinHash.bulk([[s.encode() for s in shingled(text, n)] for text in texts], num_perm=permutations)
    index = MinHashLSH(num_perm=permutations, params=(bands, permutations // bands))
    for i, sketch in enumerate(sketches):
        index.insert(i, sketch)
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, sketch in enumerate(sketches):
        for other in index.query(sketch):
            if other > i and root(i) != root(other) and sketch.jaccard(sketches[other]) >= threshold:
                low, high = sorted((root(i), root(other)))
                parent[high] = low
    times = {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    dropped = [i for i in range(len(texts)) if root(i) != i]
    return times | {"dropped": dropped}


def datatrove(texts: list[str], rows: str, n: int, permutations: int, bands: int, threshold: float) -> dict[str, Any]:
    """Its four stages on one worker, over files; clusters without verification, as it ships."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(
        n_grams=n, num_buckets=bands, hashes_per_bucket=permutations // bands, hash_config=HashConfig(precision=64)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        lines = [json.dumps({"text": text, "id": str(i)}) for i, text in enumerate(texts)]
        (folder / "in" / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        start, cpu = time.perf_counter(), time.process_time()
        for stage, (steps, tasks) in enumerate(
            [
                ([JsonlReader(f"{folder}/in"), MinhashDedupSignature(f"{folder}/signatures", config, "en")], 1),
                ([MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets", config=config)], bands),
                ([MinhashDedupCluster(f"{folder}/buckets", f"{folder}/remove", config=config)], 1),
            ]
        ):
            LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=f"{folder}/log{stage}").run()
        times = {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        removed = b"".join(path.read_bytes() for path in (folder / "remove").glob("*.remove"))
        return times | {"dropped": [i for (i,) in struct.iter_unpack("<I", removed)]}


def peak_mib() -> float:
    """Peak resident memory of this process; what it was before ``exec`` does not count, as it does in ``ru_maxrss``."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


PEERS = {
    "rensa-streaming": rensa_streaming,
    "rensa-clusters": rensa_clusters,
    "datasketch": datasketch,
    "datatrove": datatrove,
}

if __name__ == "__main__":
    main()
