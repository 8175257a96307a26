"""The order in which files of tests begin: long ones first, so that no worker of two is left with one at the end."""

#: One waits for a server and its workers longer than all others that drive Prefect take: they begin beside it, on one
#: server. What stands third is queued behind the first, so it is none of them.
FLOWS = (
    "tests/flows/test_triggered_finetune.py",
    "tests/flows/test_artifacts.py",
    "tests/methods/test_unions.py",
    "tests/flows/test_shards_are_mapped.py",
    "tests/flows/test_curate_flow.py",
    "tests/flows/test_proxies_are_mapped.py",
    "tests/tasks/test_trigger.py",
)
#: By what they took in a run of the whole suite, longest first; all others take less than eight seconds on a busy core.
LONGEST = (
    "tests/web/test_journeys.py",
    "tests/backends/train/test_trl.py",
    "tests/tasks/test_own_server.py",
    "tests/backends/train/test_four_bits.py",
    "tests/methods/mix/test_measured.py",
    "tests/backends/train/test_trl_adapters.py",
    "tests/tasks/test_evaluation_steps.py",
    "tests/cli/test_run_offline.py",
    "tests/backends/llm/test_openai_faults.py",
    "tests/web/test_publish.py",
    "tests/backends/embed/test_embedders.py",
    "tests/tasks/test_self_guide_recipe.py",
    "tests/storage/files/test_object_store_gc.py",
    "tests/tasks/test_curation.py",
    "tests/cli/test_run_killed.py",
    "tests/tasks/test_columns.py",
    "tests/methods/test_reads.py",
    "tests/storage/readers/test_bad_input.py",
    "tests/backends/tune/test_torch_loop.py",
    "tests/methods/test_bad_pools.py",
    "tests/backends/sandbox/test_sandbox.py",
    "tests/backends/llm/test_transformers.py",
    "tests/storage/test_simcrash.py",
    "tests/web/test_chromium.py",
    "tests/storage/test_kill.py",
    "tests/backends/llm/test_openai.py",
    "tests/web/test_newcomer.py",
    "tests/methods/dedup/test_minhash.py",
    "tests/storage/test_faults.py",
    "tests/cli/test_quiet.py",
    "tests/storage/questions/test_diff_sets.py",
    "tests/storage/questions/test_sql_names.py",
    "tests/methods/test_hostile_lengths.py",
    "tests/tasks/test_pilot.py",
    "tests/web/test_patience.py",
    "tests/tasks/test_gate.py",
    "tests/cli/test_decontaminating.py",
    "tests/tasks/test_search_configuration.py",
    "tests/backends/train/test_pretrain.py",
    "tests/storage/files/test_object_store.py",
    "tests/storage/files/test_object_store_whole.py",
    "tests/web/test_safety.py",
    "tests/web/test_browser.py",
    "tests/storage/test_machine.py",
    "tests/tasks/test_row_losses.py",
    "tests/cli/test_paint.py",
)


def place(path: str) -> int:
    """Where a file stands, by its path from the root; those that are not listed come last, in the order they were in."""
    return PLACES.get(path, len(PLACES))


PLACES = {path: number for number, path in enumerate((*FLOWS, *LONGEST))}
