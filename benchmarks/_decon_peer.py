"""datatrove's n-gram decontamination, run inside an environment of its own: ``python _decon_peer.py JOB.json``.

Imports nothing of provender. The index is made with datatrove's own normalisation, tokenizer and hash, of all n-grams of
prompts and answers (``find_query_ngrams``); its filter then sees each row's texts as one document.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.utils.text import ngrams, simplify_text


def main() -> None:
    """Read the job, index, filter, print one JSON line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    config = NGramsDecontConfig(n_grams=job["n"], find_query_ngrams=True, find_overlap_ngrams=False)
    step = NGramsDecontFilter(job["index"], config)
    started = time.process_time()
    hashes = set()
    for text in job["items"]:
        tokens = step.tokenizer.word_tokenize(simplify_text(text, config.norm_config))
        hashes.update(map(step.hash_func, map(" ".join, ngrams(tokens, config.n_grams))))
    Path(job["index"]).mkdir(exist_ok=True)
    np.array(list(hashes), dtype=config.hash_config.np_descr).tofile(Path(job["index"]) / "packs.index.hashes")
    indexed = time.process_time() - started
    step.load_index_hashes()
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(job["rows"])]
    started, wall = time.process_time(), time.perf_counter()
    flagged = [i for i, document in enumerate(documents) if step.filter(document) is not True]
    print(
        json.dumps(
            {
                "cpu": time.process_time() - started,
                "wall": time.perf_counter() - wall,
                "index_cpu": indexed,
                "flagged": flagged,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
