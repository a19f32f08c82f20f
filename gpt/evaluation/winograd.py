"""The Winograd Schema Challenge (Levesque et al. 2012): whom does the pronoun mean?

Language Models are Unsupervised Multitask Learners (Radford et al. 2019), Section 3.4, after Trinh and Le (2018,
arXiv:1806.02847): the pronoun is replaced by each candidate. Full scoring compares the probabilities of the whole
sentences, partial scoring only those of what follows the candidate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.gpt.evaluation.choices import choose
from zoo.gpt.evaluation.exam import Exam, Figure, Result, described, mean_and_error, protocol, read_text, require
from zoo.shared.errors import UserError

_POSSESSIVE = ("his", "its", "their", "my", "our", "your")
_LOWERED = ("the", "a", "an", "my", "his", "her", "their", "our", "your", "its", "this", "that")
_FORMAT = "WSCollection.xml, or JSON objects with text, pronoun, pronoun_loc, options and label"


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A sentence with a pronoun.

    Attributes:
        before: Text before the pronoun.
        pronoun: The pronoun.
        after: Text after it.
        options: Candidates.
        label: Number of the right one.
    """

    before: str
    pronoun: str
    after: str
    options: tuple[str, ...]
    label: int


def read_schemas(path: Path) -> list[Schema]:
    """Read the published XML, or JSON as an array or on lines.

    Raises:
        UserError: Another format.
    """
    text = read_text(path)
    if text.lstrip().startswith("<"):
        return _read_xml(path, text)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError:
        try:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is neither XML nor JSON; {_FORMAT} are expected") from error
    rows = rows if isinstance(rows, list) else [rows]
    if not rows:
        raise UserError(f"{path} is empty; {_FORMAT} are expected")
    return [_from_json(row, f"{path}, item {number}") for number, row in enumerate(rows, 1)]


def _from_json(row: Any, where: str) -> Schema:
    fields = ("text", "pronoun", "pronoun_loc", "options", "label")
    row = require(row, fields, what=_FORMAT, where=where)
    text, pronoun, place = str(row["text"]), str(row["pronoun"]), row["pronoun_loc"]
    if not isinstance(place, int) or text[place : place + len(pronoun)].lower() != pronoun.lower():
        raise UserError(f"{where}: the pronoun {pronoun!r} is not at {place} of the text")
    return _checked(text[:place], pronoun, text[place + len(pronoun) :], row["options"], row["label"], where)


def _read_xml(path: Path, text: str) -> list[Schema]:
    import xml.etree.ElementTree as ElementTree

    try:
        root = ElementTree.fromstring(text.encode("utf-8"))
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is broken XML ({error}); {_FORMAT} are expected") from error
    found = []
    for number, schema in enumerate(root.iter("schema"), 1):
        where = f"{path}, schema {number}"
        parts = [" ".join((schema.findtext(f"text/{tag}") or "").split()) for tag in ("txt1", "pron", "txt2")]
        options = [" ".join((answer.text or "").split()) for answer in schema.iter("answer")]
        label = (schema.findtext("correctAnswer") or "").strip().strip(".").upper()
        before, pronoun, after = parts
        if before:
            before += " "
        if after and after[0] not in ",.;:!?'":
            after = f" {after}"
        found.append(_checked(before, pronoun, after, options, "ABCD".find(label) if label else -1, where))
    if not found:
        raise UserError(f"{path} holds no <schema>; {_FORMAT} are expected")
    return found


def _checked(before: str, pronoun: str, after: str, options: Any, label: Any, where: str) -> Schema:
    if not isinstance(options, list) or len(options) < 2 or not isinstance(label, int) or not 0 <= label < len(options):
        raise UserError(f"{where}: two or more options and the number of the right one are expected")
    if not pronoun or not after.strip():
        raise UserError(f"{where}: there is no pronoun, or nothing after it")
    return Schema(before=before, pronoun=pronoun, after=after, options=tuple(map(str, options)), label=label)


def substituted(schema: Schema, option: str) -> str:
    """A candidate as it stands in the pronoun's place: with 's for a possessive, its article small in mid-sentence."""
    first, _, rest = option.partition(" ")
    start = not schema.before.strip() or schema.before.rstrip()[-1] in ".!?"
    if rest and first.lower() in _LOWERED:
        first = first.capitalize() if start else first.lower()
    name = f"{first} {rest}" if rest else first
    if schema.pronoun.lower() in _POSSESSIVE:
        name += "'" if name.endswith("s") and schema.pronoun.lower() == "their" else "'s"
    return name


def winograd(exam: Exam) -> Result:
    """Full and partial scoring."""
    schemas = read_schemas(exam.file)
    used = [schemas[i] for i in exam.chosen(schemas)]
    names = [[substituted(schema, option) for option in schema.options] for schema in used]
    exam.say(f"Winograd: {len(used)} schemas")
    figures, truncated = [], 0
    for kind in ("full", "partial"):
        # What stands before the pronoun is the same for every candidate, so full scoring may leave it out.
        contexts = [
            [schema.before if kind == "full" else schema.before + name for name in row]
            for schema, row in zip(used, names, strict=True)
        ]
        parts = [
            [name + schema.after if kind == "full" else schema.after for name in row]
            for schema, row in zip(used, names, strict=True)
        ]
        chosen = choose(exam, contexts, parts, rule="sum")
        value, error = mean_and_error(
            best == schema.label for schema, best in zip(used, chosen.best.tolist(), strict=True)
        )
        truncated += chosen.truncated
        figures.append(
            Figure(
                name=f"{kind} scoring",
                metric="accuracy",
                value=value,
                error=error,
                chance=mean_and_error(1 / len(schema.options) for schema in used)[0],
                chance_is="any candidate",
                items=len(used),
            )
        )
    return Result(
        figures=figures,
        protocol=protocol(
            exam,
            benchmark="winograd",
            template="{text before}{candidate in the pronoun's place}{text after}",
            possessives={"pronouns": list(_POSSESSIVE), "form": "candidate's, or candidates' for their"},
            scoring={
                "full": "log-likelihood of the whole sentence",
                "partial": "log-likelihood of what follows the candidate",
            },
        ),
        data=described(exam.file, len(schemas), len(used)),
        notes={"truncated": truncated},
    )
