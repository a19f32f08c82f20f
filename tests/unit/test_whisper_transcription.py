"""Long recordings, without a model where none is needed, and with a small random one of a 1 s window where one is."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import zoo.whisper
from zoo.shared.errors import UserError
from zoo.shared.transformer import Block, naive_attention
from zoo.whisper.configs import WhisperConfig
from zoo.whisper.decoding import DecodingResult
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.transcription import windows
from zoo.whisper.transcription.alignment import alignment_cost, median_filter, warp
from zoo.whisper.transcription.fallback import decode_with_fallback, is_good, is_silence
from zoo.whisper.transcription.hallucination import judge, looks_invented, strangeness
from zoo.whisper.transcription.history import History
from zoo.whisper.transcription.options import TranscriptionOptions
from zoo.whisper.transcription.segments import Segment, Window, Word, cut_window
from zoo.whisper.transcription.timing import merge_punctuation, time_segments
from zoo.whisper.transcription.transcribe import find_language, transcribe
from zoo.whisper.transcription.words import alignment_heads, find_words, recorded_scores
from zoo.whisper.vocabulary import train_tokenizer

T = 1000  # stands for 0.00 s


def result(**changes) -> DecodingResult:
    base = {"language": "en", "avg_logprob": -0.3, "no_speech_prob": 0.1, "compression_ratio": 1.2, "temperature": 0.0}
    return DecodingResult(**{**base, **changes})


def words_of(*rows) -> list[Word]:
    return [Word(text=t, tokens=[n], start=a, end=b, probability=p) for n, (t, a, b, p) in enumerate(rows)]


def segment(start: float, end: float, words: list[Word] | None = None, **changes) -> Segment:
    base = {"seek": 0, "text": " so", "tokens": [1], "temperature": 0.0, "avg_logprob": -0.3}
    return Segment(
        **{
            **base,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.1,
            "start": start,
            "end": end,
            "words": words,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def small():
    """A random model that hears one second at once, with a tokenizer of its own; and one that knows two languages."""
    torch.manual_seed(0)
    texts = [" the cat sat on the mat", " a dog, a cat and a mouse", " is it so? it is so."]
    found = {}
    for name, languages in (("one", ("en",)), ("two", ("en", "de"))):
        tokenizer = train_tokenizer(texts, 340, languages=languages, audio_context=50)
        config = WhisperConfig(
            audio_context=50, text_context=64, width=32, heads=2, audio_depth=1, text_depth=2,
            vocab_size=tokenizer.vocab_size, tokenizer="bpe",
        )  # fmt: skip
        model = Whisper(config)
        for parameter in model.parameters():  # larger weights, so that texts differ
            nn.init.normal_(parameter, std=0.15)
        found[name] = (model.eval(), WhisperPreprocessor(tokenizer, config))
    return found


class TestCutting:
    def test_pairs_of_times_cut(self):
        cut = cut_window([T, 5, 6, T + 50, T + 60, 7, T + 100, T + 100, 8], frames=3000, timestamp_begin=T)
        assert cut.pieces == [(0.0, 1.0, [T, 5, 6, T + 50]), (1.2, 2.0, [T + 60, 7, T + 100])]
        assert (cut.advance, cut.closed) == (200, False)

    def test_a_single_time_at_the_end_ends_the_window(self):
        cut = cut_window([T, 5, T + 50, T + 60, 7, T + 100], frames=2500, timestamp_begin=T)
        assert [piece[2][-1] for piece in cut.pieces] == [T + 50, T + 100]
        assert (cut.advance, cut.closed) == (2500, True)

    def test_without_pairs_all_is_one_piece(self):
        assert cut_window([5, 6], frames=700, timestamp_begin=T).pieces == [(0.0, 7.0, [5, 6])]
        assert cut_window([T, 5], frames=700, timestamp_begin=T).pieces == [(0.0, 7.0, [T, 5])]
        one = cut_window([T, 5, T + 150], frames=700, timestamp_begin=T)
        assert (one.pieces, one.advance) == ([(0.0, 3.0, [T, 5, T + 150])], 700)
        assert cut_window([], frames=700, timestamp_begin=T).pieces == [(0.0, 7.0, [])]


class TestFallback:
    def test_goes_on_until_a_text_is_good(self):
        asked = []

        def decode_at(temperature):
            asked.append(temperature)
            return result(temperature=temperature, compression_ratio=3.0 - temperature)

        found = decode_with_fallback(decode_at, TranscriptionOptions())
        assert asked == [0.0, 0.2, 0.4, 0.6]
        assert found.temperature == 0.6

    def test_the_last_one_is_taken_if_all_are_bad(self):
        found = decode_with_fallback(lambda t: result(temperature=t, avg_logprob=-2.0), TranscriptionOptions())
        assert found.temperature == 1.0

    def test_silence_needs_no_other_temperature(self):
        options = TranscriptionOptions()
        quiet = result(avg_logprob=-2.0, no_speech_prob=0.9, compression_ratio=9.0)
        assert is_good(quiet, options)
        assert is_silence(quiet, options)
        assert not is_silence(result(avg_logprob=-0.5, no_speech_prob=0.9), options)
        assert is_silence(result(avg_logprob=-0.5, no_speech_prob=0.9), TranscriptionOptions(logprob_threshold=None))
        off = TranscriptionOptions(no_speech_threshold=None, logprob_threshold=None, compression_ratio_threshold=None)
        assert is_good(quiet, off)
        assert not is_silence(quiet, off)


class TestOptions:
    def test_takes_text_for_lists_and_names_for_codes(self):
        options = TranscriptionOptions.of(
            None, {"temperature": "0,0.5", "clip_timestamps": "1,2.5", "language": "German", "languages": "de,english"}
        )
        assert options.temperature == (0.0, 0.5)
        assert options.clip_timestamps == (1.0, 2.5)
        assert (options.language, options.languages) == ("de", ("de", "en"))
        assert TranscriptionOptions(temperature=0).temperature == (0.0,)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"beams": 3}, "there is no option 'beams'"),
            ({"task": "sing"}, "transcribe or translate"),
            ({"temperature": "hot"}, "must be numbers"),
            ({"temperature": ()}, "one or several numbers"),
            ({"beam_size": 0}, "beam_size must be at least 1"),
            ({"patience": 2.0}, "give beam_size"),
            ({"carry_initial_prompt": True}, "needs an initial_prompt"),
            ({"hallucination_silence_threshold": 2.0}, "needs word_timestamps"),
            ({"clip_timestamps": "5,2"}, "must rise"),
            ({"language": "klingon"}, "no language"),
            ({"language": "fr", "languages": ("en", "de")}, "none of the languages"),
        ],
    )
    def test_mistakes_get_one_line(self, changes, says):
        with pytest.raises(UserError, match=says) as caught:
            TranscriptionOptions.of(None, changes)
        assert "\n" not in str(caught.value)

    def test_what_only_the_decoder_refuses_is_told_before_any_work(self, small):
        model, preprocessor = small["one"]
        with pytest.raises(UserError, match="length_penalty"):
            transcribe(model, "no-such.wav", preprocessor=preprocessor, length_penalty=7.0)
        with pytest.raises(UserError, match="english only"):
            transcribe(model, "no-such.wav", preprocessor=preprocessor, language="de")
        with pytest.raises(UserError, match="english only"):
            transcribe(model, "no-such.wav", preprocessor=preprocessor, task="translate")
        with pytest.raises(UserError, match="no language 'fr'"):
            transcribe(small["two"][0], "no-such.wav", preprocessor=small["two"][1], languages=("fr",))
        with pytest.raises(UserError, match="no such file"):
            transcribe(model, "no-such.wav", preprocessor=preprocessor)

    def test_own_vocabularies_need_a_preprocessor(self, small):
        with pytest.raises(UserError, match="comes with its weights"):
            transcribe(small["one"][0], np.zeros(16_000, np.float32))


class TestHistory:
    tokenizer = SimpleNamespace(encode=lambda text: [ord(letter) for letter in text])

    def history(self, **changes) -> History:
        return History(self.tokenizer, TranscriptionOptions(**changes), context=22)  # room for 10 tokens

    def test_first_the_prompt_then_the_text(self):
        history = self.history(initial_prompt="ab")
        assert history.prompt() == [32, 97, 98]
        history.add(range(4))
        assert history.prompt() == [32, 97, 98, 0, 1, 2, 3]
        history.add(range(4, 12))
        assert history.prompt() == list(range(2, 12))
        assert history.written == list(range(12))
        history.forget()
        assert history.prompt() == []

    def test_what_is_carried_stays(self):
        history = self.history(initial_prompt="ab", carry_initial_prompt=True)
        history.add(range(12))
        assert history.prompt() == [32, 97, 98, *range(5, 12)]
        history.forget()
        assert history.prompt() == [32, 97, 98]

    def test_a_long_prompt_is_cut_at_its_start(self):
        history = self.history(initial_prompt="abcdefghijkl", carry_initial_prompt=True)
        history.add(range(5))
        assert history.prompt() == [ord(letter) for letter in "cdefghijkl"]

    def test_hotwords_stand_before_all(self):
        history = self.history(hotwords="zoo", initial_prompt="ab")
        history.add(range(12))
        assert history.prompt() == [32, 122, 111, 111, *range(6, 12)]
        history.forget()
        assert history.prompt() == [32, 122, 111, 111]
        assert history.written == list(range(12))


class TestAlignment:
    def test_the_path_is_the_cheapest(self):
        draw = np.random.default_rng(0)
        for _ in range(20):
            cost = draw.standard_normal((int(draw.integers(1, 6)), int(draw.integers(1, 7))))
            sums = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf)
            sums[0, 0] = 0
            for i in range(cost.shape[0]):
                for j in range(cost.shape[1]):
                    sums[i + 1, j + 1] = cost[i, j] + min(sums[i, j], sums[i, j + 1], sums[i + 1, j])
            tokens, states = warp(cost)
            assert cost[tokens, states].sum() == pytest.approx(sums[-1, -1], abs=1e-5)
            steps = np.stack([np.diff(tokens), np.diff(states)])
            assert steps.min(initial=0) >= 0
            assert steps.max(initial=1) <= 1
            assert (tokens[0], states[0], tokens[-1], states[-1]) == (0, 0, *(side - 1 for side in cost.shape))

    def test_median_filter(self):
        x = torch.tensor([[5.0, 1.0, 9.0, 2.0, 2.0]])
        assert median_filter(x, 3).tolist() == [[1.0, 5.0, 2.0, 2.0, 2.0]]
        assert torch.equal(median_filter(x[:, :1], 3), x[:, :1])

    def test_tokens_are_found_where_their_attention_lies(self):
        scores = torch.full((2, 5, 40), -4.0)
        for token in range(5):
            scores[:, token, 8 * token : 8 * token + 8] = 4.0
        tokens, states = warp(alignment_cost(scores))
        begins = [int(states[tokens == token][0]) for token in range(5)]
        assert all(abs(begin - 8 * token) <= 1 for token, begin in enumerate(begins))

    def test_recorded_scores_are_those_of_attention(self, small):
        model, _ = small["one"]
        audio, tokens = torch.randn(2, 50, 32), torch.randint(100, (2, 7))
        plain = model.decoder(tokens, audio)
        with recorded_scores(model.decoder, ((1, 1), (0, 0), (1, 0))) as scores:
            again = model.decoder(tokens, audio)
        assert torch.allclose(plain, again, atol=1e-5)
        assert list(scores) == [(1, 1), (1, 0), (0, 0)]
        block = model.decoder.transformer.blocks[0]
        assert isinstance(block, Block)
        seen = {}

        def keep(q, k, v, mask, *, dropout=0.0):
            seen["scores"] = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            return naive_attention(q, k, v, mask, dropout=dropout)

        kernel, block.cross.kernel = block.cross.kernel, keep
        model.decoder(tokens, audio)
        block.cross.kernel = kernel
        assert torch.allclose(scores[0, 0], seen["scores"][:, 0], atol=1e-5)

    def test_kernels_come_back_after_an_error(self, small):
        decoder = small["one"][0].decoder
        kernels = [block.cross.kernel for block in decoder.transformer.blocks]
        with pytest.raises(RuntimeError), recorded_scores(decoder, ((0, 0), (1, 1))):
            raise RuntimeError
        assert [block.cross.kernel for block in decoder.transformer.blocks] == kernels

    def test_windows_together_are_as_alone(self, small):
        model, preprocessor = small["one"]
        tokenizer = preprocessor.tokenizer
        audio = torch.randn(3, 50, 32)
        texts = [tokenizer.encode(" the cat sat"), [], tokenizer.encode(" a dog, a cat and so on it is")]
        frames = [100, 60, 81]
        together = find_words(model, tokenizer, audio, texts, frames, language="en")
        assert together[1] == []
        for row in (0, 2):
            (alone,) = find_words(model, tokenizer, audio[row : row + 1], [texts[row]], [frames[row]], language="en")
            assert [word.text for word in alone] == [word.text for word in together[row]]
            assert [word.start for word in alone] == [word.start for word in together[row]]
            assert [token for word in alone for token in word.tokens] == texts[row]
            assert alone[-1].end <= frames[row] / 100

    def test_without_a_table_the_upper_half_aligns(self):
        assert alignment_heads(WhisperConfig(text_depth=4, heads=2, width=32)) == ((2, 0), (2, 1), (3, 0), (3, 1))


class TestTiming:
    def test_signs_join_their_words(self):
        words = words_of(
            (" (", 0, 1, 1), ("so", 1, 2, 1), (")", 2, 3, 1), (" it", 3, 4, 1), (" is", 4, 5, 1), (".", 5, 6, 1)
        )
        merge_punctuation(words, prepended="(", appended=").")
        assert [word.text for word in words] == ["", " (so)", "", " it", " is.", ""]
        assert [word.tokens for word in words] == [[], [0, 1, 2], [], [3], [4, 5], []]

    def test_segments_get_the_times_of_their_words(self):
        words = words_of((" a", 0.2, 0.5, 1), (" b", 0.5, 0.8, 1), (" c", 1.4, 1.7, 1), (".", 1.7, 9.0, 1))
        parts = [segment(10.0, 11.0, seek=1000), segment(11.0, 12.0, seek=1000)]
        time_segments(parts, words, [[0, 1], [2, 3]], last_speech=10.0, prepended="(", appended=".")
        assert [[word.text for word in part.words] for part in parts] == [[" a", " b"], [" c."]]
        assert (parts[0].start, parts[0].end) == (10.2, 10.8)
        # The full stop held the pause; of a joined sign the word keeps its own end.
        assert (parts[1].start, parts[1].end) == (11.4, 11.7)

    def test_a_first_word_is_not_stretched_over_a_pause(self):
        words = words_of((" a", 0.0, 6.0, 1), *((" b", 6 + n / 5, 6.2 + n / 5, 1) for n in range(5)))
        parts = [segment(5.5, 7.0)]
        time_segments(parts, words, [[0, 0, 1, 2, 3, 4]], last_speech=0.0, prepended="", appended="")
        assert parts[0].words[0].start == pytest.approx(5.6)
        assert parts[0].start == pytest.approx(5.6)


class TestHallucination:
    window = Window(start=1000, frames=3000, length=3000)

    def test_strange_words(self):
        (usual, short, long, rare) = words_of(
            (" a", 0, 0.5, 0.9), (" b", 0, 0.033, 0.9), (" c", 0, 3, 0.9), (" d", 0, 1, 0.1)
        )
        assert [round(strangeness(word), 6) for word in (usual, short, long, rare)] == [0.0, 1.5, 1.0, 1.0]
        assert not looks_invented(segment(0, 1, [usual, usual]))
        assert looks_invented(segment(0, 1, [short]))
        assert not looks_invented(None)

    def judged(self, segments, **changes):
        settings = {"seek": 4000, "threshold": 2.0, "last_speech": 9.0, "recording_frames": 20_000, **changes}
        return judge(segments, self.window, **settings)

    def invented(self, start):
        return segment(start, start + 0.02, words_of((" you", start, start + 0.02, 0.1)))

    def ordinary(self, start):
        return segment(
            start, start + 1, words_of((" so", start, start + 0.5, 0.9), (" it", start + 0.5, start + 1, 0.9))
        )

    def test_ordinary_segments_stay(self):
        segments = [self.ordinary(11), self.ordinary(20)]
        verdict = self.judged(segments)
        assert (verdict.kept, verdict.seek, verdict.again) == (segments, 4000, False)

    def test_silence_before_an_invented_first_segment_is_skipped(self):
        verdict = self.judged([self.invented(15.5), self.ordinary(20)])
        assert (verdict.kept, verdict.seek, verdict.again) == ([], 1550, True)

    def test_an_invented_segment_between_silences_ends_the_window(self):
        first = self.ordinary(11)
        verdict = self.judged([first, self.invented(20), self.ordinary(30)])
        assert (verdict.kept, verdict.seek, verdict.again) == ([first], 2000, False)
        assert self.judged([first, self.invented(12.5), self.ordinary(13)]).seek == 4000

    def test_one_at_the_end_of_the_recording_ends_it(self):
        assert self.judged([self.ordinary(11), self.invented(36)], recording_frames=3700).seek == 3700


class TestWholeRecordings:
    options = {"temperature": 0.0, "sample_len": 20, "logprob_threshold": None, "no_speech_threshold": None}  # noqa: RUF012

    def test_a_window_shorter_than_30_seconds(self, small):
        model, preprocessor = small["one"]
        model.train()
        seen, stages = [], []
        samples = torch.randn(16_000 * 5 + 900) * 0.1
        found = transcribe(
            model, samples, preprocessor=preprocessor, on_segment=seen.append, word_timestamps=True,
            progress=lambda stage, done, total: stages.append((stage, done, total)), **self.options,
        )  # fmt: skip
        assert model.training
        model.eval()
        assert found["language"] == "en"
        assert len(found["segments"]) >= 5
        assert all(0 <= s["start"] <= s["end"] <= 5.06 + 1 for s in found["segments"])
        assert [s["id"] for s in found["segments"]] == list(range(len(found["segments"])))
        assert seen == [s for s in found["segments"] if s["text"]]
        assert seen
        assert any(s["words"] for s in found["segments"])
        assert {stage for stage, _, _ in stages} == {"reading", "transcribing"}
        assert stages[-1] == ("transcribing", 5.05, 5.05)
        json.dumps(found)  # plain numbers only

    def test_paths_bytes_and_samples_are_the_same(self, small, tmp_path):
        import soundfile

        model, preprocessor = small["one"]
        samples = (np.random.default_rng(0).standard_normal(30_000) * 0.1).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
        path = tmp_path / "a.wav"
        takes = [samples, torch.from_numpy(samples), path, str(path), path.read_bytes()]
        found = [zoo.whisper.transcribe(model, take, preprocessor=preprocessor, **self.options) for take in takes]
        assert found[0]["segments"]
        assert all(one == found[0] for one in found)

    def test_clips(self, small):
        model, preprocessor = small["one"]
        samples = torch.randn(16_000 * 6) * 0.1
        found = transcribe(
            model, samples, preprocessor=preprocessor, clip_timestamps=[1.0, 2.5, 4.0, 60.0],
            without_timestamps=True, **self.options,
        )  # fmt: skip
        assert [(s["seek"], s["end"]) for s in found["segments"]] == [(100, 2.0), (200, 2.5), (400, 5.0), (500, 6.0)]

    def test_less_than_a_frame_is_no_text(self, small):
        model, preprocessor = small["one"]
        assert transcribe(model, torch.zeros(100), preprocessor=preprocessor)["segments"] == []
        with pytest.raises(UserError, match="no samples"):
            transcribe(model, torch.zeros(0), preprocessor=preprocessor)

    def test_sampling_follows_from_the_seed(self, small):
        model, preprocessor = small["one"]
        samples = torch.randn(16_000 * 2) * 0.1
        hot = {**self.options, "temperature": 1.0, "best_of": 3}
        first, again, other = (
            transcribe(model, samples, preprocessor=preprocessor, seed=seed, **hot)["text"] for seed in (1, 1, 2)
        )
        assert first == again != other

    def test_the_language_is_the_likeliest_of_those_allowed(self, small):
        model, preprocessor = small["two"]
        samples = torch.randn(16_000) * 0.1
        for allowed in ("en", "de"):
            found = transcribe(model, samples, preprocessor=preprocessor, languages=[allowed], **self.options)
            assert found["language"] == allowed
        told = transcribe(model, samples, preprocessor=preprocessor, language="german", **self.options)
        assert told["language"] == "de"
        free = transcribe(model, samples, preprocessor=preprocessor, **self.options)
        assert free["language"] in ("en", "de")

    def test_models_of_one_language_need_not_listen(self, small):
        model, preprocessor = small["one"]
        assert find_language(model, preprocessor.tokenizer, None) == "en"

    def test_times_that_lead_back_do_not_hang(self, small, monkeypatch):
        model, preprocessor = small["one"]
        begin = preprocessor.tokenizer.timestamp_begin
        asked = []

        def decode(model, tokenizer, states, options, prompts):
            asked.append(prompts)
            return [result(tokens=[begin, begin, 5])]

        monkeypatch.setattr(windows, "decode", decode)
        transcribe(model, torch.zeros(16_000 * 3), preprocessor=preprocessor, **self.options)
        assert len(asked) == 3

    def test_verbose_writes_lines(self, small, capsys, monkeypatch):
        model, preprocessor = small["one"]
        spoken = preprocessor.tokenizer.encode(" the cat")
        monkeypatch.setattr(windows, "decode", lambda *args, **rest: [result(tokens=spoken)])
        transcribe(model, torch.zeros(16_000), preprocessor=preprocessor, verbose=True)
        assert capsys.readouterr().out == "[00:00.000 --> 00:01.000] the cat\n"
        transcribe(model, torch.zeros(16_000), preprocessor=preprocessor, verbose=False)
        assert capsys.readouterr().out == ""
