"""The bounded domain of the default recipe: numbers, times, dates and commands, with exact translations.

A sentence is a meaning (a kind and the numbers that fill it) that every language renders in its own words, so what is
said in one language has exactly one English translation. Sentence ``k`` of a part is a pure function of
(seed, part, k). Held out are the sentences whose English text hashes below a share, so no held-out sentence is in
training, in any language and for any seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from zoo.whisper.speech import phrases
from zoo.whisper.speech.number_words import number_words

HELD_OUT_SHARE = 0.1

PARTS = {"train": 0, "held-out": 1}

_MINUTES = 60
_WEIGHTS = {
    "number": 4, "code": 3, "song": 2, "clock": 3, "alarm": 2, "call": 2, "remind": 2, "today": 2, "meeting": 2,
    "timer": 1, "warmth": 2, "list": 3, "switch": 1,
}  # fmt: skip
"""How often each kind is drawn; kinds with few different sentences are rarer."""

_ORDINALS = str.split(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
_GERMAN_ORDINALS = {1: "erste", 3: "dritte", 7: "siebte", 8: "achte"}


@dataclass(frozen=True)
class Meaning:
    """What a sentence says, in no language.

    Attributes:
        kind: A key of :data:`zoo.whisper.speech.phrases.TEMPLATES`.
        values: The numbers that fill it, in the order that the kind needs.
    """

    kind: str
    values: tuple[int, ...]

    def text(self, language: str) -> str:
        """The sentence in a language, with capitals and a full stop, numbers in words."""
        slots = _SLOTS[self.kind](self.values, language)
        text = phrases.TEMPLATES[self.kind][language].format(**slots)
        return text[0].upper() + text[1:]


def sentence(seed: int, part: str, number: int) -> Meaning:
    """Sentence ``number`` of a part.

    Args:
        seed: Chooses the sentences.
        part: A key of :data:`PARTS`.
        number: From 0 on.
    """
    held = part == "held-out"
    key = np.array([seed % 2**64, 0x5E47], dtype=np.uint64)
    counter = np.array([0, number, PARTS[part], 0], dtype=np.uint64)
    rng = np.random.Generator(np.random.Philox(key=key, counter=counter))
    while is_held_out(meaning := draw(rng)) != held:
        pass
    return meaning


def different_sentences(seed: int, part: str) -> Iterator[Meaning]:
    """Sentences of a part, each meaning once."""
    seen: set[Meaning] = set()
    number = 0
    while True:
        found = sentence(seed, part, number)
        number += 1
        if found not in seen:
            seen.add(found)
            yield found


def is_held_out(meaning: Meaning) -> bool:
    """Whether a sentence is kept for testing; its English text decides."""
    digest = hashlib.blake2b(meaning.text("en").encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**64


def draw(rng: np.random.Generator) -> Meaning:
    """A sentence of any part."""
    weights = np.array(list(_WEIGHTS.values()), dtype=float)
    kind = list(_WEIGHTS)[int(rng.choice(len(weights), p=weights / weights.sum()))]

    def below(*limits: int) -> tuple[int, ...]:
        return tuple(int(rng.integers(limit)) for limit in limits)

    if kind == "number":
        return Meaning(kind, below(10 ** int(rng.integers(1, 5))))
    if kind == "code":
        return Meaning(kind, below(*(10,) * int(rng.integers(3, 6))))
    if kind == "song":
        return Meaning(kind, (1 + below(999)[0],))
    if kind in ("clock", "alarm"):
        return Meaning(kind, (*_time(rng),))
    if kind == "call":
        return Meaning(kind, (*below(len(phrases.NAMES)), *_time(rng)))
    if kind == "remind":
        return Meaning(kind, (*below(len(phrases.WEEKDAYS)), *_time(rng)))
    if kind == "today":
        return Meaning(kind, below(len(phrases.WEEKDAYS), 28, len(phrases.MONTHS)))
    if kind == "meeting":
        return Meaning(kind, below(28, len(phrases.MONTHS)))
    if kind == "timer":
        return Meaning(kind, (_count(rng),))
    if kind == "warmth":
        return Meaning(kind, (*below(len(phrases.ROOMS)), _count(rng)))
    if kind == "list":
        return Meaning(kind, (_count(rng), *below(len(phrases.ITEMS))))
    assert kind == "switch"
    return Meaning(kind, below(len(phrases.SWITCHES), len(phrases.DEVICES), len(phrases.IN_ROOMS)))


def _time(rng: np.random.Generator) -> tuple[int, int]:
    return 1 + int(rng.integers(12)), int(rng.integers(_MINUTES))


def _count(rng: np.random.Generator) -> int:
    """From 2 to 99 without those that end in one, whose form would depend on the counted noun's gender."""
    while (number := 2 + int(rng.integers(98))) % 10 == 1 and number != 11:
        pass
    return number


def _time_slots(hour: int, minute: int, language: str) -> dict[str, str]:
    """A time of day by a twelve-hour clock: bare, after "it is" and after "at"."""
    hours, minutes = number_words(hour, language), number_words(minute, language)
    if language == "en":
        tail = "o'clock" if not minute else minutes if minute >= 10 else f"oh {minutes}"
        return {"time": f"{hours} {tail}"}
    if language == "de":
        return {"time": f"{'ein' if hour == 1 else hours} Uhr" + (f" {minutes}" if minute else "")}
    if language == "fr":
        spoken = "une heure" if hour == 1 else f"{hours} heures"
        feminine = f"{minutes}e" if minute % 10 == 1 and minute != 11 else minutes
        return {"time": spoken + (f" {feminine}" if minute else "")}
    one = hour == 1
    if language == "es":
        spoken = f"{'una' if one else hours}" + (f" y {minutes}" if minute else " en punto")
        return {
            "Time_is": f"{'Es la' if one else 'Son las'} {spoken}",
            "at_time": f"{'a la' if one else 'a las'} {spoken}",
        }
    spoken = f"{'una' if one else hours}" + (f" e {minutes}" if minute else " in punto")
    return {
        "Time_is": f"È l'{spoken}" if one else f"Sono le {spoken}",
        "at_time": f"all'{spoken}" if one else f"alle {spoken}",
    }


def _date_slots(day: int, month: int, language: str) -> dict[str, str]:
    """A day of the year, as a statement and, in German, after "am"."""
    name = phrases.MONTHS[month][language]
    words = number_words(day, language)
    if language == "en":
        return {"date": f"the {_english_ordinal(day)} of {name}"}
    if language == "de":
        ordinal = _german_ordinal(day)
        return {"date": f"der {ordinal} {name}", "on_date": f"{ordinal}n {name}"}
    if language == "es":
        return {"date": f"el {words} de {name}"}
    if language == "fr":
        return {"date": f"le {'premier' if day == 1 else words} {name}"}
    article = "l'" if day in (8, 11) else "il "
    return {"date": f"{article}{'primo' if day == 1 else words} {name}"}


def _english_ordinal(day: int) -> str:
    return _ORDINALS[day - 1] if day <= 20 else f"twenty-{_ORDINALS[day - 21]}"


def _german_ordinal(day: int) -> str:
    if day in _GERMAN_ORDINALS:
        return _GERMAN_ORDINALS[day]
    return number_words(day, "de") + ("te" if day < 20 else "ste")


def _time_of(values: tuple[int, ...], language: str) -> dict[str, str]:
    hour, minute = values
    return _time_slots(hour, minute, language)


def _number(values: tuple[int, ...], language: str) -> dict[str, str]:
    return {"number": number_words(values[0], language)}


def _switch(values: tuple[int, ...], language: str) -> dict[str, str]:
    switch, device, room = values
    filled = {"device": phrases.DEVICES[device][language], "in_room": phrases.IN_ROOMS[room][language]}
    return {"switch": phrases.SWITCHES[switch][language].format(**filled)}


_SLOTS = {
    "number": _number,
    "song": _number,
    "code": lambda v, lang: {"digits": " ".join(number_words(digit, lang) for digit in v)},
    "clock": _time_of,
    "alarm": _time_of,
    "call": lambda v, lang: {"name": phrases.NAMES[v[0]], **_time_of(v[1:], lang)},
    "remind": lambda v, lang: {"weekday": phrases.WEEKDAYS[v[0]][lang], **_time_of(v[1:], lang)},
    "today": lambda v, lang: {"weekday": phrases.WEEKDAYS[v[0]][lang], **_date_slots(v[1] + 1, v[2], lang)},
    "meeting": lambda v, lang: _date_slots(v[0] + 1, v[1], lang),
    "timer": lambda v, lang: {"count": number_words(v[0], lang)},
    "warmth": lambda v, lang: {"room": phrases.ROOMS[v[0]][lang], "count": number_words(v[1], lang)},
    "list": lambda v, lang: {"count": number_words(v[0], lang), "item": phrases.ITEMS[v[1]][lang]},
    "switch": _switch,
}
"""Kind to what turns its values into the words of a language."""
