"""``zoo chat``: a conversation with Talkie, or with any model whose tokenizer has the marks of its chat format.

A turn is the speaker's mark, the text and ``<|end|>`` (Talkie's released code). What a person types is never read as
a mark.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from zoo.gpt.commands import add_sampling_options, load_model, sampling_options
from zoo.shared.command_line import Parser, add_model_options, give, say
from zoo.shared.errors import UserError

if TYPE_CHECKING:
    from zoo.gpt.model import GPT
    from zoo.gpt.tokenizer import GptTokenizer
    from zoo.shared.generation.options import GenerationOptions

END, USER, ASSISTANT, SYSTEM = "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"


@dataclass(frozen=True)
class Turn:
    """What was asked and what was answered."""

    user: str
    assistant: str


class Template(Protocol):
    """How a conversation becomes one text.

    Attributes:
        end: The token that ends an answer.
        stop: Texts that end one too.
    """

    end: int | None
    stop: tuple[str, ...]

    def ids(self, system: str | None, turns: list[Turn], question: str) -> list[int]:
        """Tokens that the answer follows."""
        ...


class ChatTemplate:
    """Talkie's.

    Args:
        preprocessor: A tokenizer with the marks.

    Raises:
        UserError: It has none.
    """

    def __init__(self, preprocessor: GptTokenizer) -> None:
        specials = preprocessor.tokenizer.specials
        if missing := [mark for mark in (END, USER, ASSISTANT, SYSTEM) if mark not in specials]:
            raise UserError(
                f"the tokenizer {preprocessor.tokenizer.name} has no chat marks ({missing[0]}); choose --weights of a "
                "chat model, or add --plain to talk in questions and answers"
            )
        self._specials, self._preprocessor = specials, preprocessor
        self.end: int | None = specials[END]
        self.stop: tuple[str, ...] = tuple(mark for mark in specials if mark != END)

    def ids(self, system: str | None, turns: list[Turn], question: str) -> list[int]:
        """Tokens up to the mark of the assistant."""
        said = [(SYSTEM, system)] if system else []
        for turn in turns:
            said += [(USER, turn.user), (ASSISTANT, turn.assistant)]
        said.append((USER, question))
        found = []
        for mark, text in said:
            found += [self._specials[mark], *self._preprocessor.encode(text), self._specials[END]]
        return [*found, self._specials[ASSISTANT]]


class PlainTemplate:
    """Questions and answers as text, for models that were not trained to chat, in the manner of GPT-2, Section 3.5."""

    def __init__(self, preprocessor: GptTokenizer) -> None:
        self._preprocessor = preprocessor
        self.end: int | None = preprocessor.end_of_text
        self.stop: tuple[str, ...] = ("\nQ:", "\n\n")

    def ids(self, system: str | None, turns: list[Turn], question: str) -> list[int]:
        """Tokens up to the last ``A:``."""
        said = f"{system}\n" if system else ""
        said += "".join(f"Q: {turn.user}\nA: {turn.assistant}\n" for turn in turns)
        return self._preprocessor.encode(f"{said}Q: {question}\nA:")


@dataclass
class Conversation:
    """A model and what was said.

    Attributes:
        model: The model.
        preprocessor: Its tokenizer.
        template: How turns become tokens.
        options: How answers are generated.
        system: What the model is told before all turns.
        turns: What was said; the oldest are forgotten as the context fills.
        forgotten: Turns that the last answer did not see.
    """

    model: GPT
    preprocessor: GptTokenizer
    template: Template
    options: GenerationOptions
    system: str | None = None
    turns: list[Turn] = field(default_factory=list)
    forgotten: int = 0

    def __post_init__(self) -> None:
        self.options = replace(self.options, stop=(*self.options.stop, *self.template.stop))

    def ask(self, question: str, *, stream: bool = False) -> str:
        """The answer, which then belongs to the history.

        Args:
            question: What the user says.
            stream: Write the answer to standard output as it comes.

        Raises:
            UserError: The question alone does not fit into the context.
        """
        from zoo.gpt.generation import generate_from_ids, plain_text

        ids = self._fitting(question)

        def show(_: int, text: str) -> None:
            sys.stdout.write(text)
            sys.stdout.flush()

        found = generate_from_ids(
            self.model,
            self.preprocessor,
            [ids],
            self.options,
            end=self.template.end,
            on_text=show if stream else None,
        )[0]
        answer = plain_text(found, self.preprocessor, self.options).strip()
        self.turns.append(Turn(question, answer))
        return answer

    def reset(self) -> None:
        """Forget all turns."""
        self.turns.clear()

    def _fitting(self, question: str) -> list[int]:
        """Tokens of as many of the last turns as leave room for an answer."""
        context = self.model.config.context
        room = context - min(self.options.max_new_tokens, context // 2)
        before = len(self.turns)
        while len(ids := self.template.ids(self.system, self.turns, question)) > room and self.turns:
            del self.turns[0]
        self.forgotten = before - len(self.turns)
        return ids


def chat(words: list[str]) -> int:
    """``zoo chat``: talk with a model."""
    parser = Parser(
        prog="zoo chat", description="Talk with a chat model: a line is a turn; /reset forgets, /quit ends."
    )
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    parser.add_argument("--plain", action="store_true", help="questions and answers, for models without a chat format")
    add_sampling_options(parser, max_new_tokens=300)
    add_model_options(parser, title="GPT")
    args = parser.parse_args(words)
    options = sampling_options(args)
    model, preprocessor, _ = load_model(args.weights, args.device, args.dtype)
    from zoo.gpt.generation import check_vocabulary

    check_vocabulary(model, preprocessor)
    template: Template = PlainTemplate(preprocessor) if args.plain else ChatTemplate(preprocessor)
    talk = Conversation(model, preprocessor, template, options, system=args.system)
    said = []
    for line in typed():
        if line == "/quit":
            break
        if line == "/reset":
            talk.reset()
            say("the conversation starts anew")
            continue
        if line.startswith("/"):
            say(f"unknown command {line.split()[0]}; there are /reset and /quit")
            continue
        if not line:
            continue
        try:
            answer = talk.ask(line, stream=not args.json)
        except UserError as error:
            if not sys.stdin.isatty():
                raise
            say(str(error))
            continue
        if not args.json:
            sys.stdout.write("\n")
        if talk.forgotten:
            say(f"the context is full: {talk.forgotten} earlier turns were forgotten")
        said.append({"user": line, "assistant": answer})
    if args.json:
        give(said)
    return 0


def typed() -> Iterator[str]:
    """Lines that the user types, or that standard input holds."""
    if not sys.stdin.isatty():
        for line in sys.stdin.buffer:
            yield line.decode("utf-8", "replace").strip()
        return
    import readline  # noqa: F401  # input() then has a history and can be edited

    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            return
