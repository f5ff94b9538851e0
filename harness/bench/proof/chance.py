"""The probability that trials on random integers miss a difference.

Polynomials. Two different polynomials of total degree at most D agree at a point whose coordinates are
drawn from S values each with probability at most D/S (Schwartz 1980, Zippel 1979), and the bound holds
for every order in which the coordinates are drawn. Here S = 2m + 1; trials multiply.

Arbitrary functions. A program is a polynomial of its inputs and of the values f(a) of functions, where
each argument a is such a polynomial again. Two programs are the same for arbitrary functions if and only
if they are the same polynomial, f(a) and f(b) being one variable where a and b are the same polynomial
(and, for even and odd functions, where a = −b; zero counts as an argument). Call a trial good if all N
arguments of both sides that are different polynomials are told apart before it. In a good trial the
values are independent and uniform on at least 2m numbers, so it misses a difference with probability at
most q = D/(2m). Arguments are told apart by all that they have been so far: two of nesting depth d that
differ coincide once more with probability at most q as soon as those less deep are told apart. There are
at most P_d = 4·N_d·N such pairs (N_d arguments of depth d; twice for a = −b, and twice for a softmax,
whose argument is an element and its row). Depth by depth, told apart after exactly k_1, k_2, … k_Δ
trials with probability at most Π P_d·q^(k_d − 1), and then T − Σk_d trials miss: of T trials all miss
with probability at most

    C(T + Δ, Δ) · P_1 ⋯ P_Δ · q^(T − Δ).

q also has the chance that two of the 64-bit codes of arguments coincide, and what 63 random bits are
uneven over 2m + 1 values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from harness.bench.proof.oracle import WIDEST
from harness.bench.proof.refusal import RefusedError

TARGET_LOG10_P = -30.0
# More trials than this take minutes where a smaller shape takes seconds.
_MOST_TRIALS = 4000


@dataclass(frozen=True)
class Chance:
    """What decides how likely trials are to miss a difference.

    degree and magnitude: of the larger side. asked: how many values of functions both sides ask for, by
    how deep they are nested.
    """

    degree: int
    magnitude: int
    asked: Mapping[int, int]

    @classmethod
    def of(cls, degree: int, magnitude: int, *asked: Mapping[int, int]) -> Chance:
        """Add up what the sides ask for, and refuse where no number of trials would do."""
        total = sum((Counter(side) for side in asked), Counter[int]())
        if magnitude < degree / (2 if total else 1):
            raise RefusedError(
                f"the integers that stay exact reach only ±{magnitude} at degree {degree}: "
                "use a smaller shape"
            )
        return cls(degree, magnitude, total)

    def log10(self, trials: int) -> float:
        """Return the logarithm of the probability that so many trials miss a difference."""
        if not self.asked:
            return trials * math.log10(self.degree / (2 * self.magnitude + 1))
        depth, total = len(self.asked), sum(self.asked.values())
        orders = math.log10(math.comb(trials + depth, depth))
        pairs = sum(math.log10(4 * count * total) for count in self.asked.values())
        return min(0.0, orders + pairs + (trials - depth) * self._log10_of_one(total))

    def _log10_of_one(self, total: int) -> float:
        numbers = 2 * min(self.magnitude, WIDEST)
        return math.log10(min(1.0, self.degree / numbers * (1 + 2 * numbers / 2**63) + total**2 / 2**63))

    def trials(self) -> int:
        """Return how many trials bring the probability to the target."""
        if not self.asked:
            return math.ceil(TARGET_LOG10_P / self.log10(1))
        for count in range(1, _MOST_TRIALS):
            if self.log10(count) <= TARGET_LOG10_P:
                return count
        raise RefusedError(
            f"{_MOST_TRIALS} trials at ±{self.magnitude} and degree {self.degree} tell too little: "
            "use a smaller shape"
        )
