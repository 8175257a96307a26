"""Which task runner a flow gets: threads by default, Ray by one line in the recipe when one machine is outgrown."""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prefect.context import FlowRunContext

from schemas.errors import MissingExtra


def with_runner(flow: Any, runner: str) -> Any:
    """The flow with the runner a recipe names. Ray starts here unless ``RAY_ADDRESS`` names a cluster.

    Raises ``MissingExtra`` when prefect-ray is not installed.
    """
    if runner == "threads":
        return flow
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from prefect_ray import RayTaskRunner  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise MissingExtra("runner: ray needs a package: pip install 'provender[ray]'") from error
    address = os.environ.get("RAY_ADDRESS")
    options = {} if address else {"include_dashboard": False, "num_cpus": os.cpu_count()}
    return flow.with_options(task_runner=RayTaskRunner(address=address, init_kwargs=options))


def placed(*, on_gpu: bool) -> AbstractContextManager[Any]:
    """Tasks mapped inside it go where their resources are: on Ray each asks for a core, and for a GPU where it uses one.

    Ray hides the GPUs from a task that asks for none. A cluster without GPUs runs them on its cores, as threads do.
    """
    context = FlowRunContext.get()
    if context is None or type(context.task_runner).__name__ != "RayTaskRunner":
        return nullcontext()
    import ray  # pyright: ignore[reportMissingImports]
    from prefect_ray.context import remote_options  # pyright: ignore[reportMissingImports]

    gpus = 1 if on_gpu and ray.cluster_resources().get("GPU", 0) >= 1 else 0
    return remote_options(num_cpus=1, num_gpus=gpus)


def uses_gpu(configs: Iterable[Any]) -> bool:
    """Whether one of these backends runs a model in the task's own process on whatever device there is.

    >>> from backends.llm.openai import OpenAI
    >>> uses_gpu([OpenAI(base_url="http://127.0.0.1:1/v1", model="m", revision="r")])
    False
    """
    inner = [(config, getattr(config, "embed", None)) for config in configs]  # a substitute works over another engine
    devices = [str(getattr(part, "device", "cpu")) for pair in inner for part in pair if part is not None]
    return any(device.startswith(("auto", "cuda")) for device in devices)
