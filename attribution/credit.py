"""How one conversion is shared among its touches: a model's integer weights, and the largest remainder.

Rules: `docs/semantics.md`, "Credit". Everything here is exact: only integers, and no float anywhere.
Both functions run once for each conversion and model, so the common cases have short ways.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import isqrt
from operator import itemgetter

Touches = Sequence[tuple[int, bool]]
Stages = tuple[int | None, int | None]
"""Times of the first lead and the first opportunity; None: there is none."""

ROLE_MODELS = ("w_shaped", "full_path")
_time = itemgetter(0)

# Time decay is floor(2**_UNIT_BITS * 2**-x) for an age of x half-lives.
_UNIT_BITS = 40
# Powers of 2 are held with _BITS fractional bits; the fraction of a half-life with _AGE_BITS, of which
# three tables take 10 bits each and a quadratic takes the last _REST_BITS.
_BITS = 128
_AGE_BITS = 96
_REST_BITS = 66
_REST_MASK = (1 << _REST_BITS) - 1
_ONE = 1 << _BITS
# ln 2 to 48 decimals (digits: OEIS A002162), as a fraction of 2**_BITS.
_LN2 = (693147180559945309417232121458176568075500134360 << _BITS) // 10**48
# The fast value is wrong by less than this many units of 2**-_BITS: the age is cut at 2**-96 (2**32 units), the
# series after its quadratic term (y**3 / 6 with y < ln 2 * 2**-30, under 2**34 units), and each table entry and
# product at a few units.
_ERROR = 1 << 36


def _tables() -> tuple[list[int], list[int], list[int]]:
    """2**(-j / 2**10), 2**(-j / 2**20) and 2**(-j / 2**30) for j in 0..1023, in units of 2**-_BITS."""
    guard = 64  # more than the rounding of 1024 products and 30 roots
    bits = _BITS + guard
    root = 1 << bits - 1
    tables = []
    for _ in range(3):
        for _ in range(10):
            root = isqrt(root << bits)
        power, table = 1 << bits, []
        for _ in range(1024):
            table.append(power >> guard)
            power = power * root >> bits
        tables.append(table)
    return tables[0], tables[1], tables[2]


_COARSE, _MIDDLE, _FINE = _tables()


def _decay_slowly(whole: int, rest: int, half_life: int) -> int:
    """As `_decay`, for 0 < rest < half_life, by square roots alone and with as many bits as it takes.

    It ends: 2**(-rest / half_life) is irrational, so it lies on no boundary between two weights.
    """
    bits = 256
    while True:
        age = (rest << bits) // half_life
        value, root = 1 << bits, 1 << bits - 1
        for place in range(bits - 1, -1, -1):
            root = isqrt(root << bits)
            if age >> place & 1:
                value = value * root >> bits
        error = 8 * bits  # a cut product, and a cut root, for each bit; and the cut of the age
        shift = bits - _UNIT_BITS + whole
        low, high = (value - error) >> shift, (value + error) >> shift
        if low == high:
            return low
        bits *= 2


def _decay(delta: int, half_life: int) -> int:
    """floor(2**40 * 2**(-delta / half_life)) exactly, for an age `delta` in the unit of `half_life`."""
    whole, rest = divmod(delta, half_life)
    if not 0 <= whole < _UNIT_BITS:
        if whole < 0:
            raise ValueError("touches are not in journey order: one is later than the last")
        return 1 if whole == _UNIT_BITS and not rest else 0
    if not rest:
        return 1 << _UNIT_BITS - whole
    age = (rest << _AGE_BITS) // half_life
    # 2**-x = e**-y with y = x ln 2, for the part x < 2**-30 of the age that the tables leave: 1 - y + y**2 / 2.
    y = (age & _REST_MASK) * _LN2 >> _AGE_BITS
    value = _ONE - y + (y * y >> _BITS + 1)
    value = value * _FINE[age >> _REST_BITS & 1023] >> _BITS
    value = value * _MIDDLE[age >> _REST_BITS + 10 & 1023] >> _BITS
    value = value * _COARSE[age >> _REST_BITS + 20] >> _BITS
    shift = _BITS - _UNIT_BITS + whole
    low = value - _ERROR >> shift
    if low == value + _ERROR >> shift:
        return low
    # A boundary between two weights lies within the error.
    return _decay_slowly(whole, rest, half_life)


def _first_touch(touches: Touches, half_life: int) -> list[int]:
    result = [0] * len(touches)
    result[0] = 1
    return result


def _last_touch(touches: Touches, half_life: int) -> list[int]:
    result = [0] * len(touches)
    result[-1] = 1
    return result


def _last_non_direct(touches: Touches, half_life: int) -> list[int]:
    result = [0] * len(touches)
    for i in range(len(touches) - 1, -1, -1):
        if not touches[i][1]:
            result[i] = 1
            return result
    result[-1] = 1
    return result


def _first_and_last(touches: Touches, half_life: int) -> list[int]:
    result = [0] * len(touches)
    result[0] = result[-1] = 1
    return result


def _linear(touches: Touches, half_life: int) -> list[int]:
    return [1] * len(touches)


def _time_decay(touches: Touches, half_life: int) -> list[int]:
    if half_life <= 0:
        raise ValueError(f"half_life is {half_life} microseconds; it must be positive")
    latest = touches[-1][0]
    return [_decay(latest - t, half_life) for t, _ in touches]


def _position_based(touches: Touches, half_life: int) -> list[int]:
    n = len(touches)
    result = [1] * n
    if n > 2:
        # 40 % at each end and 20 % between: 2(n-2) : n-2 : 2(n-2).
        result[0] = result[-1] = 2 * (n - 2)
    return result


_MODELS: dict[str, Callable[[Touches, int], list[int]]] = {
    "first_touch": _first_touch,
    "last_touch": _last_touch,
    "last_non_direct": _last_non_direct,
    "first_and_last": _first_and_last,
    "linear": _linear,
    "time_decay": _time_decay,
    "position_based": _position_based,
}


def _by_role(touches: Touches, stages: Stages, *, last: bool) -> list[int]:
    """90 % shared evenly by the roles that there are, 10 % by the touches without one; without such, all by the roles.

    The roles: the first touch, and with `last` the last one; per stage the latest touch at or before it. With m touches
    without a role and r roles a role weighs 9m and a touch without one r: 90/r : 10/m.
    """
    roles = [0] * len(touches)
    roles[0] += 1
    if last:
        roles[-1] += 1
    for stage in stages:
        before = -1 if stage is None else bisect_right(touches, stage, key=_time) - 1
        if before >= 0:
            roles[before] += 1
    others = roles.count(0)
    if not others:
        return roles
    whole = sum(roles)
    return [9 * others * held if held else whole for held in roles]


def weights(model: str, touches: Touches, half_life: int, stages: Stages = (None, None)) -> list[int]:
    """The weight of each touch under a rule model: non-negative integers, at least one of them positive.

    `touches` are the eligible touches in journey order as (t in microseconds, is direct); `half_life` in
    microseconds matters to time_decay only, and `stages`, the times of the first lead and the first opportunity, to
    w_shaped and full_path. Raises ValueError on an unknown model, on no touches, and under
    time_decay on a half-life that is not positive or a touch later than the last.
    """
    if not touches:
        raise ValueError("a conversion without touches has no credit to share")
    if model in ROLE_MODELS:
        return _by_role(touches, stages, last=model == "full_path")
    rule = _MODELS.get(model)
    if rule is None:
        raise ValueError(f"unknown attribution model {model!r}; known are {', '.join((*_MODELS, *ROLE_MODELS))}")
    return rule(touches, half_life)


def share(total: int, weights: Sequence[int]) -> list[int]:
    """Share `total` in proportion to `weights` by largest remainder: as many parts, which sum to it exactly.

    Each part is floor(total * w / sum(w)); the units left over go one each to the largest remainders, ties to the
    earlier. Of a negative total the absolute value is shared and the sign put back. Raises ValueError when a weight
    is negative or none is positive.
    """
    n = len(weights)
    whole = sum(weights)
    least = min(weights, default=0)
    if least < 0 or whole <= 0:
        raise ValueError(f"weights {list(weights)!r} share nothing: none may be negative, one must be positive")
    if weights.count(0) == n - 1:
        parts = [0] * n
        parts[weights.index(whole)] = total
        return parts
    size = abs(total)
    if least * n == whole:  # all weights are equal, hence all remainders
        part, left = divmod(size, n)
        parts = [part + 1] * left + [part] * (n - left)
    else:
        parts, remainders = [], []
        for weight in weights:
            part, remainder = divmod(size * weight, whole)
            parts.append(part)
            remainders.append(remainder)
        left = size - sum(parts)
        if left:
            # Sorting is stable in reverse too, so equal remainders stay in journey order.
            for i in sorted(range(n), key=remainders.__getitem__, reverse=True)[:left]:
                parts[i] += 1
    return parts if total >= 0 else [-part for part in parts]
