"""How numbers read in the report: one spelling each for shares, values, counts, times and sizes."""

import math
from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[float]:
    """Tell a finite number from NaN, infinity, booleans and anything else a file may hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(share: float) -> str:
    """Write 0.125 as `12 %`; 0 and 100 are kept for none and all."""
    rounded = f"{100 * share:.0f}"
    if rounded in ("0", "100") and 0 < share < 1:
        rounded = f"{min(max(100 * share, 0.1), 99.9):.1f}"
    return f"{rounded} %"


def compact(value: Any) -> str:
    """Write a value with up to four significant digits: `0.6931`, `1e-4`, `12,480`."""
    if not is_number(value):
        return "–" if value is None else str(value)
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−") if value < 0 else text


def count(value: Any) -> str:
    """Write 12480 as `12,480`."""
    return f"{value:,.0f}" if is_number(value) else compact(value)


def duration(seconds: Any) -> str:
    """Write seconds as a person says them: `8.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if not is_number(seconds):
        return compact(seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count_bytes: Any) -> str:
    """Write bytes in powers of 1024: `1.5 GiB`."""
    if not is_number(count_bytes):
        return compact(count_bytes)
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"
