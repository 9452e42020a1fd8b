"""Where the shipped configurations are."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent.parent
# Inside the package in a wheel, beside it in a checkout.
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"
