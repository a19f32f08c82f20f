"""English sentences for voices of other languages, sound by sound: English with an accent.

A synthesiser with one English voice ties the language to the voice, and a model then hears any new voice as one of the
other languages. Here every voice speaks English. Words are written in ARPAbet, the alphabet of the CMU Pronouncing
Dictionary; each voice says the sound of its own language that is nearest, and that is its accent.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

_WORDS = """
a AH | add AE1 D | anna AE1 N AH | apples AE1 P AH L Z | april EY1 P R AH L | at AE1 T | august AO1 G AH S T
bathroom B AE1 TH R UW M | bedroom B EH1 D R UW M | bottles B AA1 T AH L Z | call K AO1 L | code K OW1 D
daniel D AE1 N Y AH L | december D IH S EH1 M B ER | degrees D IH G R IY1 Z | eggs EH1 G Z | eight EY1 T
eighteen EY T IY1 N | eighteenth EY T IY1 N TH | eighth EY1 T TH | eighty EY1 T IY | eleven IH L EH1 V AH N
eleventh IH L EH1 V AH N TH | fan F AE1 N | february F EH1 B R UW EH R IY | fifteen F IH F T IY1 N
fifteenth F IH F T IY1 N TH | fifth F IH1 F TH | fifty F IH1 F T IY | first F ER1 S T | five F AY1 V | for F AO1 R
forty F AO1 R T IY | four F AO1 R | fourteen F AO R T IY1 N | fourteenth F AO R T IY1 N TH | fourth F AO1 R TH
friday F R AY1 D EY | garage G AH R AA1 ZH | heating HH IY1 T IH NG | hundred HH AH1 N D R AH D | in IH N | is IH Z
it IH T | january JH AE1 N Y UW EH R IY | july JH UH L AY1 | june JH UW1 N | kitchen K IH1 CH AH N | laura L AO1 R AH
lemons L EH1 M AH N Z | light L AY1 T | list L IH1 S T | living L IH1 V IH NG | march M AA1 R CH | maria M AH R IY1 AH
may M EY1 | me M IY | meeting M IY1 T IH NG | minutes M IH1 N AH T S | monday M AH1 N D EY | nine N AY1 N
nineteen N AY N T IY1 N | nineteenth N AY N T IY1 N TH | ninety N AY1 N T IY | ninth N AY1 N TH
november N OW V EH1 M B ER | number N AH1 M B ER | o'clock AH K L AA1 K | october AA K T OW1 B ER | of AH V | off AO1 F
office AO1 F IH S | oh OW1 | on AA N | one W AH1 N | peter P IY1 T ER | play P L EY1 | potatoes P AH T EY1 T OW Z
radio R EY1 D IY OW | remind R IH M AY1 N D | room R UW1 M | saturday S AE1 T ER D EY | second S EH1 K AH N D
september S EH P T EH1 M B ER | set S EH1 T | seven S EH1 V AH N | seventeen S EH V AH N T IY1 N
seventeenth S EH V AH N T IY1 N TH | seventh S EH1 V AH N TH | seventy S EH1 V AH N T IY | six S IH1 K S
sixteen S IH K S T IY1 N | sixteenth S IH K S T IY1 N TH | sixth S IH1 K S TH | sixty S IH1 K S T IY | song S AO1 NG
sunday S AH1 N D EY | television T EH1 L AH V IH ZH AH N | ten T EH1 N | tenth T EH1 N TH | the DH AH | third TH ER1 D
thirteen TH ER T IY1 N | thirteenth TH ER T IY1 N TH | thirty TH ER1 T IY | thomas T AA1 M AH S
thousand TH AW1 Z AH N D | three TH R IY1 | thursday TH ER1 Z D EY | timer T AY1 M ER | to T UW
today T AH D EY1 | tomatoes T AH M EY1 T OW Z
tuesday T UW1 Z D EY | turn T ER1 N | twelfth T W EH1 L F TH | twelve T W EH1 L V | twentieth T W EH1 N T IY AH TH
twenty T W EH1 N T IY | two T UW1 | up AH1 P | wake W EY1 K | water W AO1 T ER | wednesday W EH1 N Z D EY
zero Z IH1 R OW
"""

VOICES = ("de-DE", "es-ES", "fr-FR", "it-IT")

# What stands for each English sound in X-SAMPA, of the sounds that each voice has; "-" is left out, EU is
# a British "er".
_SOUNDS = """
AA a   a  a  a  | AE E   a  a  a  | AH @   e  9  a  | AO O   o  O  o  | AW aU  au au au | AY aI  ai aj ai
EH E   e  E  E  | ER 9R  er 9R er | EY e:  ei e  ei | IH I   i  i  i  | IY i:  i  i  i  | OW o:  ou o  o
UH U   u  u  u  | UW u:  u  u  u  | B  b   b  b  b  | CH tS  tS tS tS | D  d   d  d  d  | DH z   D  z  d
F  f   f  f  f  | G  g   g  g  g  | HH h   x  -  -  | JH dZ  L  dZ dZ | K  k   k  k  k  | L  l   l  l  l
M  m   m  m  m  | N  n   n  n  n  | NG N   N  N  n  | P  p   p  p  p  | R  R   r  R  r  | S  s   s  s  s
T  t   t  t  t  | TH s   T  s  t  | V  v   b  v  v  | W  v   u  w  u  | Y  j   j  j  i  | Z  z   s  z  z
ZH Z   s  Z  dZ | EU 9   e  9  e
"""

_VOWELS = re.compile(r"[AEIOU]")


def accented(text: str, voice: str, *, british: bool = False) -> str:
    """An English sentence as a voice of another language is told to say it.

    Args:
        text: Of the generated sentences; all their words are known here.
        voice: One of :data:`VOICES`.
        british: Whether the speaker learnt English in Britain: no r after a vowel, and the o of "on" is one.

    Returns:
        The engine's markup.
    """
    words = re.findall(r"[a-z']+", text.lower())
    return " ".join(f"<phoneme ph='{_spoken(word, voice, british)}'/>" for word in words) + "."


@cache
def _spoken(word: str, voice: str, british: bool) -> str:
    """A word in X-SAMPA, with the mark of stress before its syllable."""
    sounds = _british(word) if british else _words()[word]
    spoken = [_sounds()[sound.rstrip("1")][VOICES.index(voice)].replace("-", "") for sound in sounds]
    stressed = next((place for place, sound in enumerate(sounds) if sound.endswith("1")), None)
    if stressed is not None:
        consonant = stressed > 0 and not _VOWELS.match(sounds[stressed - 1])
        spoken.insert(stressed - consonant, '"')
    return "".join(spoken)


def _british(word: str) -> list[str]:
    sounds = [*_words()[word], ""]
    kept = [sound for sound, after in pairwise(sounds) if sound != "R" or _VOWELS.match(after)]
    open_o = "o" in word
    return [{"ER": "AH", "ER1": "EU1"}.get(sound, sound.replace("AA", "AO") if open_o else sound) for sound in kept]


@cache
def _words() -> dict[str, list[str]]:
    entries = [entry.split() for entry in re.split(r"[|\n]", _WORDS) if entry.strip()]
    return {word: sounds for word, *sounds in entries}


@cache
def _sounds() -> dict[str, list[str]]:
    entries = [entry.split() for entry in re.split(r"[|\n]", _SOUNDS) if entry.strip()]
    return {sound: spoken for sound, *spoken in entries}
