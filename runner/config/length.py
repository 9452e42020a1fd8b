"""Training lengths such as `30ep` or `500it`. With `0it`, nothing is trained; the sweep prunes the initial weights."""

import re
from dataclasses import dataclass

_FORM = re.compile(r"([1-9][0-9]*|0(?=it))(ep|it)")


@dataclass(frozen=True)
class Length:
    """A number of epochs or iterations (training steps)."""

    number: int
    unit: str  # ep or it

    @classmethod
    def parse(cls, text: object) -> "Length":
        """Parse a length.

        Raises:
            ValueError: the text is neither a positive whole number followed by `ep` or `it`, nor `0it`.
        """
        match = _FORM.fullmatch(str(text))
        if match is None:
            raise ValueError("expected a positive whole number of epochs or iterations: 30ep, 500it")
        return cls(int(match[1]), match[2])

    def steps(self, steps_per_epoch: int) -> int:
        return self.number * steps_per_epoch if self.unit == "ep" else self.number
