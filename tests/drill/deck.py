"""Cards that are dealt until none is left, and shuffled anew then: nothing falls much more often than asked."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Generic, TypeVar

Card = TypeVar("Card")


class Deck(Generic[Card]):
    """Some cards, each as often as it says, in an order that follows from the random numbers.

    Args:
        once: never to be shuffled anew.
    """

    def __init__(self, random: Random, cards: Mapping[Card, int], *, once: bool = False) -> None:
        self._random, self._left, self._shuffled, self._once = random, list[Card](), False, once
        self._whole = [card for card, count in cards.items() for _ in range(count)]

    def deal(self, count: int, fits: Callable[[Card], bool] = lambda _: True) -> list[Card]:
        """Return the next cards that fit; the others stay where they are, for another time.

        Fewer where none of a whole deck fits, or where it is dealt only once.
        """
        dealt: list[Card] = []
        while len(dealt) < count:
            place = next((i for i, card in enumerate(self._left) if fits(card)), None)
            if place is not None:
                dealt.append(self._left.pop(place))
            elif any(map(fits, self._whole)) and not (self._once and self._shuffled):
                self._shuffled = True
                self._left += self._random.sample(self._whole, len(self._whole))
            else:
                break
        return dealt

    def put_back(self, cards: Sequence[Card]) -> None:
        """Have cards on top that were dealt and not played."""
        self._left[:0] = cards
