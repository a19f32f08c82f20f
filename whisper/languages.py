"""The languages that Whisper knows, in the order of their ids (arXiv:2212.04356, Appendix E). Imports no torch."""

from __future__ import annotations

import difflib

from zoo.shared.errors import UserError

# Codes are ISO 639-1 where there is one, except that Javanese is spelled "jw". The order is that of the training hours.
# fmt: off
LANGUAGES: dict[str, str] = {
    "en": "english", "zh": "chinese", "de": "german", "es": "spanish", "ru": "russian", "ko": "korean", "fr": "french",
    "ja": "japanese", "pt": "portuguese", "tr": "turkish", "pl": "polish", "ca": "catalan", "nl": "dutch",
    "ar": "arabic", "sv": "swedish", "it": "italian", "id": "indonesian", "hi": "hindi", "fi": "finnish",
    "vi": "vietnamese", "he": "hebrew", "uk": "ukrainian", "el": "greek", "ms": "malay", "cs": "czech",
    "ro": "romanian", "da": "danish", "hu": "hungarian", "ta": "tamil", "no": "norwegian", "th": "thai", "ur": "urdu",
    "hr": "croatian", "bg": "bulgarian", "lt": "lithuanian", "la": "latin", "mi": "maori", "ml": "malayalam",
    "cy": "welsh", "sk": "slovak", "te": "telugu", "fa": "persian", "lv": "latvian", "bn": "bengali", "sr": "serbian",
    "az": "azerbaijani", "sl": "slovenian", "kn": "kannada", "et": "estonian", "mk": "macedonian", "br": "breton",
    "eu": "basque", "is": "icelandic", "hy": "armenian", "ne": "nepali", "mn": "mongolian", "bs": "bosnian",
    "kk": "kazakh", "sq": "albanian", "sw": "swahili", "gl": "galician", "mr": "marathi", "pa": "punjabi",
    "si": "sinhala", "km": "khmer", "sn": "shona", "yo": "yoruba", "so": "somali", "af": "afrikaans", "oc": "occitan",
    "ka": "georgian", "be": "belarusian", "tg": "tajik", "sd": "sindhi", "gu": "gujarati", "am": "amharic",
    "yi": "yiddish", "lo": "lao", "uz": "uzbek", "fo": "faroese", "ht": "haitian creole", "ps": "pashto",
    "tk": "turkmen", "nn": "nynorsk", "mt": "maltese", "sa": "sanskrit", "lb": "luxembourgish", "my": "myanmar",
    "bo": "tibetan", "tl": "tagalog", "mg": "malagasy", "as": "assamese", "tt": "tatar", "haw": "hawaiian",
    "ln": "lingala", "ha": "hausa", "ba": "bashkir", "jw": "javanese", "su": "sundanese", "yue": "cantonese",
}
# Other names and codes of the same languages.
ALIASES: dict[str, str] = {
    "bokmal": "no", "bokmål": "no", "burmese": "my", "castilian": "es", "cmn": "zh", "farsi": "fa", "fil": "tl",
    "filipino": "tl", "flemish": "nl", "haitian": "ht", "in": "id", "iw": "he", "ji": "yi", "jv": "jw",
    "letzeburgesch": "lb", "mandarin": "zh", "moldavian": "ro", "moldovan": "ro", "nb": "no", "norwegian nynorsk": "nn",
    "panjabi": "pa", "pushto": "ps", "sinhalese": "si", "valencian": "ca", "zh-yue": "yue",
}
# fmt: on
# Written without spaces between words, so that words are cut between characters.
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
_BY_NAME = {name: code for code, name in LANGUAGES.items()} | ALIASES


def language_code(name: str) -> str:
    """The code of a language that somebody typed.

    Args:
        name: A code (``en``, also with a region: ``pt-BR``), a name (``English``) or another name of the same language
            (``castilian``), in any case.

    Raises:
        UserError: Whisper knows no such language; it says which names come close.
    """
    wanted = name.strip().lower().replace("_", "-")
    for spelled in (wanted, wanted.replace("-", " "), wanted.split("-")[0]):
        code = spelled if spelled in LANGUAGES else _BY_NAME.get(spelled)
        if code:
            return code
    close = difflib.get_close_matches(wanted, [*_BY_NAME, *LANGUAGES], n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "use a code such as en, or a name such as english"
    raise UserError(f"Whisper knows no language {name!r}; {hint}")
