"""Lemmas about positions, taps and groups, for all sizes; a claim inherits those that it rests on.

What is said of rows holds of columns, which are counted alike. Division of integers, z3's ``/``, rounds down.
"""

from typing import Any

from harness import Lemma, lemma


def within(z3: Any, number: Any, size: Any, first: Any = 0) -> Any:
    """Say that a number is one of ``size``, counted from ``first``."""
    return z3.And(number >= first, number < first + size)


class RowOrder:
    """Rows and columns counted by one number."""

    @lemma
    def one_number_is_a_row_and_a_column(self, z3: Any) -> Lemma:
        """The number n = iW+j stands for row n div W and column n mod W, and for no other.

        It is one of 0 to HW−1 exactly where (i, j) lies in the map of H×W.
        """
        n, i, j, H, W = z3.Ints("n i j H W")
        return Lemma(
            {"in row order": n == i * W + j, "in a row": within(z3, j, W)},
            z3.And(i == n / W, j == n % W, within(z3, n, H * W) == within(z3, i, H)),
        )


class BlockedGroups:
    """Channels in groups, or in heads, of adjacent ones."""

    @lemma
    def a_channel_lies_in_one_block(self, z3: Any) -> Lemma:
        """If G groups of D channels make C, the group of channel c is c div (C/G), which is ⌊cG/C⌋."""
        c, g, C, G, D = z3.Ints("c g C G D")
        return Lemma(
            {
                "equal groups": G * D == C,
                "in the map": within(z3, c, C),
                "owned": within(z3, c, D, first=g * D),
            },
            z3.And(within(z3, g, G), g == c / (C / G), g == c * G / C),
        )

    @lemma
    def a_block_holds_its_channels_once(self, z3: Any) -> Lemma:
        """Channel gD+e is the only one of group g at place e of 0 to D−1."""
        c, g, e, D = z3.Ints("c g e D")
        return Lemma(
            {"blocked": c == g * D + e, "in the block": within(z3, e, D)},
            z3.And(g == c / D, e == c % D),
        )


class CentredTaps:
    """A window of K taps along an axis, r = K div 2 to either side of the middle one."""

    @lemma
    def a_tap_is_a_neighbour(self, z3: Any) -> Lemma:
        """Tap u of position i and its neighbour p = i+u−r determine each other.

        The taps 0 to K−1 are the neighbours i−r to i+r.
        """
        i, u, p, r, K = z3.Ints("i u p r K")
        return Lemma(
            {"odd": 2 * r + 1 == K, "centred": p == i + u - r},
            z3.And(r == K / 2, u == p - i + r, within(z3, u, K) == within(z3, p, 2 * r + 1, first=i - r)),
        )

    @lemma
    def a_tap_in_the_map_reads_no_padding(self, z3: Any) -> Lemma:
        """Tap u of position i reads row i+u of the map with r rows of padding on either side.

        That row exists, and is one of the map's H exactly where the neighbour i+u−r is.
        """
        i, u, read, r, H = z3.Ints("i u read r H")
        return Lemma(
            {
                "a position": within(z3, i, H),
                "a tap": within(z3, u, 2 * r + 1),
                "padded": read == i + u,
            },
            z3.And(
                within(z3, read, H + 2 * r),
                within(z3, read, H, first=r) == within(z3, i + u - r, H),
            ),
        )


class WholeMapTaps:
    """A kernel of 2H−1 taps along an axis of H positions, whose middle one is tap (2H−1) div 2."""

    @lemma
    def a_pair_of_positions_is_one_tap(self, z3: Any) -> Lemma:
        """Of the 2H−1 taps of position i exactly one, u = p−i+H−1, reads position p."""
        i, p, u, other, H = z3.Ints("i p u other H")
        return Lemma(
            {"here": within(z3, i, H), "there": within(z3, p, H), "by offset": u == p - i + H - 1},
            z3.And(within(z3, u, 2 * H - 1), (i + other - (2 * H - 1) / 2 == p) == (other == u)),
        )

    @lemma
    def no_tap_is_idle(self, z3: Any) -> Lemma:
        """Each of the 2H−1 taps reads the map somewhere.

        Tap u does so at position H−1−u, or at the first one where u is H or more.
        """
        i, u, H = z3.Ints("i u H")
        return Lemma(
            {"a tap": within(z3, u, 2 * H - 1), "its position": i == z3.If(u < H, H - 1 - u, 0)},
            z3.And(within(z3, i, H), within(z3, i + u - (H - 1), H)),
        )

    @lemma
    def weights_lie_where_neighbours_do(self, z3: Any) -> Lemma:
        """The H weights of position i, laid from tap H−1−i on, fit into the kernel.

        They are the taps whose neighbour i+u−(H−1) lies in the map.
        """
        i, u, first, H = z3.Ints("i u first H")
        return Lemma(
            {"a position": within(z3, i, H), "laid out": first == H - 1 - i},
            z3.And(
                first >= 0,
                first + H <= 2 * H - 1,
                within(z3, u, H, first) == within(z3, i + u - (H - 1), H),
            ),
        )
