"""What the sections of any config are made of."""

from typing import Annotated, Any

import pydantic
import tomli_w
from pydantic import Field

_FLOAT32_MAX = 2.0**127 * (2 - 2.0**-23)
# The smallest normal number: XLA takes those below it for 0.
FLOAT32_MIN = 2.0**-126
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Rate = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]


class Section(pydantic.BaseModel):
    """Fields that are read strictly: no unknown key, no value of another type."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @pydantic.field_validator("*")
    @classmethod
    def _text_can_be_written(cls, value: Any) -> Any:
        # Arguments that are not UTF-8 come as lone surrogates; neither they nor a NUL can go into a file or its name.
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and ("\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text)):
                raise ValueError("UTF-8 text without NUL")
        return value

    @pydantic.field_validator("*")
    @classmethod
    def _float32_holds_it(cls, value: Any) -> Any:
        for number in value.values() if isinstance(value, dict) else (value,):
            if isinstance(number, float) and abs(number) > _FLOAT32_MAX:
                raise ValueError(f"a number that float32 holds, at most {_FLOAT32_MAX:.3g}")
            if isinstance(number, float) and 0 < abs(number) < FLOAT32_MIN:
                raise ValueError(f"a number that float32 does not take for 0, at least {FLOAT32_MIN:.3g}")
        return value


class Schema(Section):
    """Sections that make up a whole config."""

    def to_toml(self) -> str:
        """The complete config as TOML; `load` of it gives an equal config."""
        return tomli_w.dumps(self.model_dump(mode="json"))
