"""The model that all sections of a configuration derive from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from geohp.methods.settings import described


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no changes after validation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        return described(cls, handler(source), handler)
