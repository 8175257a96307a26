"""Every benchmark, one after the other: `python -m benchmarks [--quick] [--data FOLDER] [NAME …]`.

Each prints its figures and ratios. After one NAME alone every argument goes to that benchmark, `--help` too: `python -m
benchmarks NAME --rows 1000`. `--quick` goes to each of the named ones (all, where none is named) that has a quick form; the
others run as they are. `--data` is the folder of local data sets, for all that read one (or PROVENDER_DATA). A name may be
that of a group.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent

#: Benchmarks of one part of the product, under one name.
GROUPS = {
    "clean": ("decontaminate", "minhash", "semantic_dedup", "filters", "clear_noise"),
    "train": ("trainer", "workers", "s3", "refresh"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all; the exit code is the number that failed, 2 for arguments that make no sense."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        folder = shared_folder(given)
        runs = planned(given)
    except ValueError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    if runs is None:
        print(f"{__doc__}\nBenchmarks:")
        print("\n".join(f"  {name:16} {told(name).splitlines()[0]}" for name in names()))
        print("\nGroups:\n" + "\n".join(f"  {name:16} {' '.join(members)}" for name, members in GROUPS.items()))
        return 0
    failed, environment = 0, dict(os.environ, **({"PROVENDER_DATA": folder} if folder else {}))
    for name, given in runs:
        print(f"\n== {name}: {told(name).splitlines()[0]}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *given]
        failed += subprocess.run(command, check=False, env=environment).returncode != 0
    return failed


def shared_folder(given: list[str]) -> str | None:
    """The folder that `--data` names for several benchmarks, taken out of what was given; a single one keeps its own.

    >>> words = ["minhash", "filters", "--data", "here"]
    >>> shared_folder(words), words
    ('here', ['minhash', 'filters'])
    """
    named = [word for word in given if word in names()]
    if "--data" not in given or (len(named) == 1 and given[0] == named[0]):
        return None
    at = given.index("--data")
    if given[at + 1 : at + 2] == []:
        raise ValueError("--data needs a folder")
    folder = given[at + 1]
    if not Path(folder).is_dir():
        raise ValueError(f"--data {folder} is not a folder")
    del given[at : at + 2]
    return str(Path(folder).resolve())


def planned(arguments: Sequence[str]) -> list[tuple[str, list[str]]] | None:
    """Which benchmarks run, each with its arguments; None where help was asked for. ``ValueError`` says what is wrong.

    >>> planned(["trace", "llm", "--quick"])
    [('trace', []), ('llm', ['--quick'])]
    """
    arguments = [name for word in arguments for name in GROUPS.get(word, (word,))]
    first = next((i for i, word in enumerate(arguments) if word != "--quick"), len(arguments))
    quick, rest = first > 0, list(arguments[first:])
    if rest and rest[0] in ("-h", "--help"):
        return None
    count = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    known = names()
    if count > 1 and rest[0] in known and rest[1] not in known:
        raise ValueError(f"no benchmark {rest[1]}; what goes to {rest[0]} begins with its options")
    unknown = sorted(set(rest[:count]) - set(known))
    if unknown:
        raise ValueError(f"no benchmark {', '.join(unknown)}; there are {', '.join([*known, *GROUPS])}")
    if count == 1:
        return [(rest[0], _taken(rest[0], [*["--quick"] * quick, *rest[1:]]))]
    strange = [word for word in rest[count:] if word != "--quick"]
    if strange:
        raise ValueError(f"{' '.join(strange)} would go to several benchmarks; name one alone")
    quick = quick or count < len(rest)
    return [(name, ["--quick"] if quick and _takes(name, '"--quick"') else []) for name in rest[:count] or known]


def names() -> list[str]:
    """Every benchmark."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def told(name: str) -> str:
    """What a benchmark says of itself, without importing it."""
    return ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text("utf-8"))) or name


def _taken(name: str, given: list[str]) -> list[str]:
    """Arguments of one benchmark; one without any would run and not look at them."""
    if given and not _takes(name, "ArgumentParser"):
        raise ValueError(f"{name} takes no arguments. {told(name)}")
    return given


def _takes(name: str, word: str) -> bool:
    return word in (HERE / f"{name}.py").read_text("utf-8")


if __name__ == "__main__":
    sys.exit(main())
