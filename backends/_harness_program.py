"""Runs lm-evaluation-harness on a list of models; started by `backends.harness`, in whatever Python holds `lm_eval`.

Reads a job (JSON) and writes one JSON file of figures per model. Imports nothing of ours: the environment may be another.
"""

import json
import os
import sys
from pathlib import Path


def main(job_file):
    """The whole job; a line of JSON on standard output when each model begins and ends."""
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    job = json.loads(Path(job_file).read_text("utf-8"))
    files = [task for task in job["tasks"] if task.endswith((".yaml", ".yml"))]
    if len({Path(file).parent for file in files}) == 1:
        os.chdir(Path(files[0]).parent)  # a group's tasks may name data files beside it
    tasks = [own_task(task, load_yaml) if task in files else task for task in job["tasks"]]
    named = len(files) < len(tasks)
    groups = [
        str(Path(file).parent)
        for file, task in zip(job["tasks"], tasks, strict=True)
        if file in files and isinstance(task, str)
    ]
    # The index of all shipped tasks takes seconds; a group is known only by an index of the folder that it lies in.
    manager = TaskManager(include_defaults=named, include_path=groups or None)
    device = job["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    for done, model in enumerate(job["models"]):
        print(json.dumps({"model": model["name"], "done": done, "total": len(job["models"])}), flush=True)
        found = simple_evaluate(
            model="hf",
            model_args=model["args"],
            tasks=tasks,
            task_manager=manager,
            num_fewshot=job["num_fewshot"],
            limit=job["limit"],
            batch_size=job["batch_size"],
            device=device,
            apply_chat_template=job["chat_template"],
            random_seed=job["rng_seed"],
            numpy_random_seed=job["rng_seed"],
            torch_random_seed=job["rng_seed"],
            fewshot_random_seed=job["rng_seed"],
            bootstrap_iters=1000,
            log_samples=True,
        )
        target = Path(job["out"]) / f"{model['name']}.json"
        target.write_text(json.dumps(figures(found), default=str), "utf-8")


def own_task(path, load_yaml):
    """A task file as a config, whose data files beside it are found from anywhere; of a group its name."""
    config = load_yaml(path, resolve_func=True)
    if "group" in config:
        return config["group"]
    known = (config.get("dataset_kwargs") or {}).get("data_files")
    if known:
        config["dataset_kwargs"]["data_files"] = beside(known, Path(path).parent)
    return config


def beside(files, folder):
    """File names, wherever they stand in lists and mappings, as paths of files in ``folder`` where there are such."""
    if isinstance(files, dict):
        return {name: beside(value, folder) for name, value in files.items()}
    if isinstance(files, list):
        return [beside(value, folder) for value in files]
    return str(folder / files) if (folder / files).is_file() else files


def figures(found):
    """What is kept of a result: per task its version, shots and metrics, and the metrics of each example."""
    samples = found.get("samples") or {}
    versions, shots = found.get("versions") or {}, found.get("n-shot") or {}
    better = found.get("higher_is_better") or {}
    return {
        "tasks": {
            name: {
                "version": versions.get(name),
                "num_fewshot": shots.get(name),
                "higher_is_better": better.get(name) or {},
                "dataset": [
                    ((found.get("configs") or {}).get(name) or {}).get(key) for key in ("dataset_path", "dataset_name")
                ],
                "sample_len": result.get("sample_len"),  # of a group, whose examples are those of its tasks
                "metrics": {key: value for key, value in result.items() if "," in key},
                "examples": [example(one) for one in samples.get(name, ())],
            }
            for name, result in {**(found.get("results") or {}), **(found.get("groups") or {})}.items()
        }
    }


def example(sample):
    """One example under one filter: which it is, and its figures."""
    values = {name: sample.get(name) for name in sample.get("metrics", ())}
    return {
        "doc_id": sample["doc_id"],
        "doc": str(sample.get("doc_hash", "")) + str(sample.get("target_hash", "")),
        "filter": sample.get("filter", "none"),
        "values": {name: float(value) for name, value in values.items() if isinstance(value, int | float)},
    }


if __name__ == "__main__":
    main(sys.argv[1])
