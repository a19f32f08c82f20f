"""Numbers as people say them, 0 to 9,999, in the five languages of the generated speech."""

from __future__ import annotations

from collections.abc import Callable

LARGEST = 9999

_list = str.split

_EN = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_EN_TENS = _list("twenty thirty forty fifty sixty seventy eighty ninety")
_DE = _list(
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn"
)
_DE_TENS = _list("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_ES = _list(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis "
    "diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis "
    "veintisiete veintiocho veintinueve"
)
_ES_TENS = _list("treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_ES_HUNDREDS = _list(
    "ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
)
_FR = _list(
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
    "dix-huit dix-neuf"
)
_FR_TENS = _list("vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt")
_IT = _list(
    "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici "
    "sedici diciassette diciotto diciannove"
)
_IT_TENS = _list("venti trenta quaranta cinquanta sessanta settanta ottanta novanta")


def number_words(number: int, language: str) -> str:
    """A number in words.

    Args:
        number: From 0 to :data:`LARGEST`.
        language: One of en, de, es, fr, it.
    """
    assert 0 <= number <= LARGEST
    return _LANGUAGES[language](number)


def _english(n: int) -> str:
    if n < 20:
        return _EN[n]
    if n < 100:
        return _EN_TENS[n // 10 - 2] + (f"-{_EN[n % 10]}" if n % 10 else "")
    unit, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    rest = f" {_english(n % unit)}" if n % unit else ""
    return f"{_EN[n // unit]} {name}{rest}"


def _german(n: int) -> str:
    if n < 20:
        return _DE[n]
    if n < 100:
        tens = _DE_TENS[n // 10 - 2]
        return f"{_german_stem(n % 10)}und{tens}" if n % 10 else tens
    unit, name = (1000, "tausend") if n >= 1000 else (100, "hundert")
    return _german_stem(n // unit) + name + (_german(n % unit) if n % unit else "")


def _german_stem(digit: int) -> str:
    return "ein" if digit == 1 else _DE[digit]


def _spanish(n: int) -> str:
    if n < 30:
        return _ES[n]
    if n < 100:
        return _ES_TENS[n // 10 - 3] + (f" y {_ES[n % 10]}" if n % 10 else "")
    if n == 100:
        return "cien"
    if n < 1000:
        return _ES_HUNDREDS[n // 100 - 1] + (f" {_spanish(n % 100)}" if n % 100 else "")
    thousands = "mil" if n < 2000 else f"{_ES[n // 1000]} mil"
    return thousands + (f" {_spanish(n % 1000)}" if n % 1000 else "")


def _french(n: int) -> str:
    if n < 20:
        return _FR[n]
    if n < 100:
        tens = n // 10
        rest = n % 20 if tens in (7, 9) else n % 10
        stem = _FR_TENS[tens - 2]
        if not rest:
            return f"{stem}s" if tens == 8 else stem
        joined = " et " if rest in (1, 11) and tens < 8 else "-"
        return f"{stem}{joined}{_FR[rest]}"
    unit, name = (1000, "mille") if n >= 1000 else (100, "cent")
    many, rest = n // unit, n % unit
    plural = "s" if unit == 100 and many > 1 and not rest else ""
    return (f"{_FR[many]} " if many > 1 else "") + name + plural + (f" {_french(rest)}" if rest else "")


def _italian(n: int) -> str:
    words = _italian_stem(n)
    return f"{words[:-1]}é" if n > 20 and n % 10 == 3 and n % 100 != 13 else words


def _italian_stem(n: int) -> str:
    if n < 20:
        return _IT[n]
    if n < 100:
        tens, digit = _IT_TENS[n // 10 - 2], n % 10
        if digit in (1, 8):
            tens = tens[:-1]
        return tens + (_IT[digit] if digit else "")
    if n < 1000:
        hundred = "cent" if n % 100 // 10 == 8 else "cento"  # centottanta, but centootto
        return ("" if n < 200 else _IT[n // 100]) + hundred + (_italian_stem(n % 100) if n % 100 else "")
    thousands = "mille" if n < 2000 else f"{_IT[n // 1000]}mila"
    return thousands + (_italian_stem(n % 1000) if n % 1000 else "")


_LANGUAGES: dict[str, Callable[[int], str]] = {
    "en": _english,
    "de": _german,
    "es": _spanish,
    "fr": _french,
    "it": _italian,
}
