"""A GPT as a model of EleutherAI's lm-evaluation-harness, for the tasks that others maintain.

``lm_eval`` finds it as ``zoo`` once this module is imported::

    import lm_eval
    from zoo.gpt.evaluation.harness import harness_model

    lm_eval.simple_evaluate(model=harness_model("runs/gpt-nano/weights"), tasks=["lambada_openai"])

The class is made when it is first asked for, because ``lm_eval`` is the optional extra ``eval``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from zoo.gpt.evaluation.exam import Exam
from zoo.gpt.evaluation.free_form import complete
from zoo.gpt.scoring import score_continuations, text_losses
from zoo.shared.errors import UserError

_TOKENS = 256  # written at most, where a task does not say
_KNOWN = {"until", "do_sample", "temperature", "top_k", "top_p", "max_gen_toks", "num_beams", "length_penalty"}
_ALIASES = ("max_new_tokens", "max_tokens", "max_completion_tokens")


def harness_model(weights: str, *, device: str | None = None, batch_size: int = 16) -> Any:
    """Load weights as a model of the harness.

    Args:
        weights: Folder, file or ``hf:owner/name``.
        device: Where it runs; the GPU if there is one.
        batch_size: Texts computed at once.

    Raises:
        UserError: ``lm_eval`` is not installed, or the weights are none of a GPT.
    """
    return harness_class()(weights=weights, device=device, batch_size=batch_size)


@cache
def harness_class() -> Any:
    """The class, registered in the harness under the name ``zoo``.

    Raises:
        UserError: ``lm_eval`` is not installed.
    """
    try:
        from lm_eval.api.model import TemplateLM
        from lm_eval.api.registry import register_model
    except ImportError as error:
        raise UserError("this needs lm-evaluation-harness; `pip install 'paper-zoo[eval]'`") from error

    class ZooLM(TemplateLM):
        """A GPT. How a text is split into context and continuation is the harness's own rule.

        Args:
            weights: Folder, file or ``hf:owner/name``.
            device: Where it runs; the GPU if there is one.
            batch_size: Texts computed at once.
            max_batch_size: Given by the harness; means nothing here.
        """

        def __init__(
            self,
            weights: str,
            device: str | None = None,
            batch_size: int | str = 16,
            max_batch_size: int | None = None,
        ) -> None:
            from zoo.gpt.commands import load_model

            super().__init__()
            model, preprocessor, _ = load_model(weights, device)
            count = int(batch_size) if str(batch_size).isdigit() else 16
            self.exam = Exam(model=model, tokenizer=preprocessor, batch_size=count)
            self.batch_size = count

        @property
        def device(self) -> Any:
            """Where the model lies."""
            return next(self.exam.model.parameters()).device

        @property
        def eot_token_id(self) -> int:
            """The id that stands before a text without context."""
            end = self.exam.tokenizer.end_of_text
            if end is None:
                raise UserError("this tokenizer has no end of text, which the harness puts before a text")
            return int(end)

        @property
        def max_length(self) -> int:
            """Longest text in tokens."""
            return self.exam.context

        @property
        def tokenizer_name(self) -> str:
            """What requests are cached under."""
            return f"{self.exam.tokenizer.name}-{self.exam.tokenizer.fingerprint}"

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            """Ids of a text; special tokens in it count as such, as they do in ``transformers``."""
            return list(self.exam.tokenizer.encode(string, specials=True))

        def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            scores = score_continuations(
                self.exam.model,
                [context for _, context, _ in requests],
                [continuation for _, _, continuation in requests],
                start=self.eot_token_id,
                batch_size=self.exam.batch_size,
            )
            return list(zip((-scores.totals()).tolist(), scores.all_greedy().tolist(), strict=True))

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            """Log-likelihood of whole texts, in windows that adjoin."""
            texts = [request.args[0] for request in requests]
            losses = text_losses(self.exam.model, self.exam.tokenizer, texts, batch_size=self.exam.batch_size)
            return [-float(nats) for nats in losses.nats]

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            """Continuations, each up to the first of its stop texts."""
            found = [""] * len(requests)
            groups: dict[str, list[int]] = {}
            for place, request in enumerate(requests):
                groups.setdefault(repr(sorted(request.args[1].items())), []).append(place)
            for places in groups.values():
                how = generation_settings(requests[places[0]].args[1])
                prompts = [self.tok_encode(requests[i].args[0]) or [self.eot_token_id] for i in places]
                texts, _ = complete(self.exam, prompts, **how)
                for i, text in zip(places, texts, strict=True):
                    found[i] = text
            return found

    register_model("zoo")(ZooLM)
    return ZooLM


def generation_settings(asked: dict[str, Any]) -> dict[str, Any]:
    """What a task's ``generation_kwargs`` mean for :func:`zoo.gpt.evaluation.free_form.complete`.

    Raises:
        UserError: A task asks for something that is not known here.
    """
    asked = dict(asked)
    for alias in _ALIASES:
        if alias in asked:
            asked.setdefault("max_gen_toks", asked.pop(alias))
    unknown = sorted(set(asked) - _KNOWN)
    if unknown:
        raise UserError(f"generation_kwargs {', '.join(unknown)}: known are {', '.join(sorted(_KNOWN))}")
    until = asked.get("until") or ()
    how: dict[str, Any] = {
        "max_new_tokens": int(asked.get("max_gen_toks", _TOKENS)),
        "stop": (until,) if isinstance(until, str) else tuple(text for text in until if text),
    }
    temperature = float(asked.get("temperature", 0.0))
    if asked.get("do_sample", temperature > 0):
        how["temperature"] = temperature or 1.0
        if asked.get("top_k"):
            how["top_k"] = int(asked["top_k"])
        how["top_p"] = float(asked.get("top_p", 1.0))
    elif int(asked.get("num_beams", 1)) > 1:
        how["beams"] = int(asked["num_beams"])
        how["length_penalty"] = float(asked.get("length_penalty", 1.0))
    return how
