"""Documents say what is there: methods, verbs, exit codes, README links."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.main import app
from cli.methods import all_methods, methods_markdown
from schemas import errors
from schemas.recipe import load_recipe
from schemas.union import tag_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CLI = (ROOT / "docs" / "cli.md").read_text("utf-8")


def test_methods_page_is_generated_from_the_methods() -> None:
    page = (ROOT / "docs" / "methods.md").read_text("utf-8")
    assert page == methods_markdown() + "\n", "run: python -m cli.methods > docs/methods.md"


@pytest.mark.parametrize("kind", [k for _, k in all_methods()], ids=lambda k: f"{k.stage}/{tag_of(k, 'method')}")
def test_every_method_names_its_paper_and_explains_its_fields(kind: type) -> None:
    assert "Paper:" in (kind.__doc__ or "")
    silent = [n for n, f in kind.model_fields.items() if n != "method" and not f.description]  # type: ignore[attr-defined]
    assert not silent, f"fields without a description: {silent}"


@pytest.mark.parametrize("verb", sorted(get_command(app).commands), ids=str)  # type: ignore[attr-defined]
def test_every_verb_has_help_json_and_a_place_in_the_docs(verb: str) -> None:
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    assert command.help
    assert re.search(rf"\b{verb}\b", CLI)
    for name, leaf in getattr(command, "commands", {verb: command}).items():
        assert leaf.help, f"{verb} {name}"
        assert "--json" in {o for p in leaf.params for o in p.opts} or name in {"serve", "deploy"}, f"{verb} {name}"


def test_exit_codes_in_the_docs_are_those_of_the_errors() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI, re.MULTILINE)}
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ProvenderError)]
    assert {k.exit_code for k in kinds} - {1} <= told


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_two_commands_stand_at_the_top_of_the_readme_and_exist() -> None:
    assert README.index("make demo") < 700
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(r"^demo:", makefile, re.MULTILINE)
    assert re.search(r"^test:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")


def block(language: str) -> str:
    """The README's one block in that language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)[0]


def test_the_readmes_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(block("python"), "README.md", "exec"), names)
    assert names["rows"].height == 500


def test_the_readmes_recipe_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(block("yaml").replace("<commit>", "0123456789abcdef"), "utf-8")
    assert load_recipe(path).name == "support-bot"
