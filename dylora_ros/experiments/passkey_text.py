"""The text of the passkey experiment: varied filler, facts, and questions about them."""

from dataclasses import dataclass

import numpy as np

ADJECTIVES = ('silver golden wooden broken ancient tiny heavy yellow purple striped rusty '
              'polished hollow frozen painted leather marble crooked velvet copper').split()
NOUNS = ('key lamp violin compass ring mirror kettle ladder anchor drum basket lantern statue '
         'clock helmet saddle flute vase dagger crown telescope cradle whistle shovel barrel '
         'globe carpet bell chest mask').split()
FIRST = ('Anna Boris Clara David Elena Felix Greta Hugo Irina Jonas Katia Leo Maria Nikolai '
         'Olga Pavel Rosa Stefan Tanya Viktor').split()
LAST = ('Adler Brandt Cohen Drake Evans Fischer Grant Hansen Ivanov Jensen Keller Larsen '
        'Meyer Novak Olsen Petrov Quinn Rossi Santos Turner').split()
CITIES = ('Lima Oslo Cairo Rome Tokyo Paris Vienna Dublin Havana Lagos Madrid Prague Sydney '
          'Toronto Warsaw Zurich Athens Berlin Boston Delhi Geneva Helsinki Istanbul Jakarta '
          'Kiev Lisbon London Moscow Nairobi Seoul').split()

_TRADES = ('baker sailor teacher farmer doctor painter judge tailor guard clerk miner smith '
           'singer weaver cook pilot').split()
_DEEDS = ('repaired sold watched counted moved described admired measured washed borrowed '
          'followed remembered sketched ignored').split()
_THINGS = ('bridge river market garden tower harbor train letter horse fence storm road forest '
           'window kitchen engine boat map song field').split()
_TRAITS = ('quiet busy narrow green distant famous empty crowded cold bright modest noisy '
           'gentle dusty wide curious').split()
_TIMES = ('in spring', 'before noon', 'after the rain', 'last winter', 'every Sunday',
          'at dawn', 'for two days', 'without a word', 'late at night', 'as usual')
_FILLER = (
    'The {trade} {deed} the {trait} {thing} {time}.',
    'Nobody in {city} {deed} a {trait} {thing} {time}.',
    '{time}, {first} and {first2} {deed} the {thing} near the {trait} {thing2}.',
    'A {trait} {thing} is worth {number} coins to a {trade} from {city}.',
    'It was {trait} {time}, so the {trade} {deed} the {thing}.',
    '{first} {last} {deed} {number} {thing}s and one {adjective} {thing2}.',
    'The {adjective} {noun} in the shop window looked {trait} {time}.',
    'People say that the {thing} of {city} is more {trait} than the {thing2}.',
    'The {trade} asked the {trade2} about the {trait} {thing}.',
    '{first} travelled from {city} to {city2} {time} with a {trait} {trade}.')
_PLACE = ('The {thing} is kept in {city}.', 'The {thing} was left in {city}.',
          'You will find the {thing} in {city}.')
_OWNER = ('{person} owns the {thing}.', 'The {thing} belongs to {person}.')


def filler(rng: np.random.Generator, **about: str) -> str:
    """Return a sentence that is no fact; some ten billion are possible.

    Args:
        rng: source of chance.
        about: words that the sentence must have, by their place: first, last, adjective, noun...

    """
    def pick(words):
        return words[rng.integers(len(words))]

    text = pick([f for f in _FILLER if all(f'{{{place}}}' in f for place in about)])
    words = {
        'trade': pick(_TRADES), 'trade2': pick(_TRADES), 'deed': pick(_DEEDS),
        'thing': pick(_THINGS), 'thing2': pick(_THINGS), 'trait': pick(_TRAITS),
        'time': pick(_TIMES), 'city': pick(CITIES), 'city2': pick(CITIES), 'first': pick(FIRST),
        'first2': pick(FIRST), 'last': pick(LAST), 'number': rng.integers(2, 999),
        'adjective': pick(ADJECTIVES), 'noun': pick(NOUNS)}
    text = text.format(**{**words, **about})
    return text[0].upper() + text[1:]


def _pairs(first: list[str], last: list[str], held_out: bool) -> list[str]:
    """Return the combinations of two words that are held out, or those that are not."""
    return [f'{a} {b}' for i, a in enumerate(first) for j, b in enumerate(last)
            if ((i + j) % 5 == 0) == held_out]


_HELD_OUT = frozenset(_pairs(ADJECTIVES, NOUNS, True) + _pairs(FIRST, LAST, True))


def mentions_held_out(text: str) -> bool:
    """Tell whether a sentence names a thing or a person that training must not see."""
    words = text.replace('.', '').split()
    return any(f'{a} {b}' in _HELD_OUT for a, b in zip(words, words[1:], strict=False))


@dataclass(frozen=True)
class Chain:
    """Two facts, a one-fact question (place of the thing), a two-fact one (by its owner)."""

    place: str
    owner: str
    one: str
    two: str
    city: int
    thing: str
    person: str


def chains(rng: np.random.Generator, count: int, held_out: bool) -> list[Chain]:
    """Return chains of things and persons that training sees (or never sees).

    The words are the same, their combinations are not: a fifth of all things and of all persons
    is held out. Within the result things and persons are distinct while there are enough.
    """
    things, people = _pairs(ADJECTIVES, NOUNS, held_out), _pairs(FIRST, LAST, held_out)
    out = []
    while len(out) < count:
        a, b = rng.permutation(len(things)), rng.permutation(len(people))
        for i, j in zip(a, b, strict=False):
            thing, person, city = things[i], people[j], int(rng.integers(len(CITIES)))
            out.append(Chain(
                _PLACE[rng.integers(3)].format(thing=thing, city=CITIES[city]),
                _OWNER[rng.integers(2)].format(thing=thing, person=person),
                f'Where is the {thing}?', f'Where is the thing that {person} owns?',
                city, thing, person))
    return out[:count]


def answers() -> list[str]:
    """Return one sentence for every possible answer."""
    return [f'It is in {city}.' for city in CITIES]
