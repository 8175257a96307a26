"""A verb that also works without a sub-verb: what stands after it is then meant for its default one."""

from typing import Any

from typer.core import TyperGroup


def with_default(default: str) -> type[TyperGroup]:
    """A group that runs ``default`` where the first word is none of its commands: ``decontaminate FILE`` is its ``run``."""

    class Group(TyperGroup):
        """Sub-verbs, one of which may be left out."""

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            """Put the default sub-verb in front of what names no other and does not ask for help."""
            first = args[0] if args else ""
            if first not in self.commands and first not in ctx.help_option_names and (args or default == "list"):
                args = [default, *args]
            return super().parse_args(ctx, args)

        def format_usage(self, ctx: Any, formatter: Any) -> None:
            """The usage, with the default named."""
            super().format_usage(ctx, formatter)
            formatter.write(f"\nWithout a command: {default}\n")

    return Group
