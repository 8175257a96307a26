"""What a run may spend and how its work is cut up."""

from pydantic import BaseModel, ConfigDict, Field

#: Examples of a shard, where a recipe says nothing else.
SHARD_ROWS = 100_000


class Budget(BaseModel):
    """Ceilings that bind; each is cumulative over resumes. None = no ceiling."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int | None = Field(default=None, gt=0)
    max_usd: float | None = Field(default=None, gt=0)
    max_seconds: float | None = Field(default=None, gt=0)


class Running(BaseModel):
    """How the work is cut up. Nothing here changes a result, or the ref of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_rows: int = Field(
        default=SHARD_ROWS,
        ge=1_000,
        le=10_000_000,
        description="examples of a shard: what a per-example step judges apart, keeps when it is killed, and holds in "
        "memory for each core",
    )
