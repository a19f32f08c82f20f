"""Whisper's weights against openai-whisper, transformers and CTranslate2, both ways."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
import transformers

import zoo
from zoo.shared.convert.ctranslate2 import read_ctranslate2
from zoo.shared.errors import UserError
from zoo.whisper.configs import VARIANTS, WhisperConfig
from zoo.whisper.model import Whisper
from zoo.whisper.preprocessing import WhisperPreprocessor
from zoo.whisper.pretrained import tiny_en

SIZES = {
    "tiny": WhisperConfig(
        audio_context=32, text_context=24, width=128, heads=2, audio_depth=3, text_depth=2, vocab_size=51865
    ),
    "english": WhisperConfig(
        audio_context=32, text_context=24, width=64, heads=1, audio_depth=1, text_depth=2,
        vocab_size=51864, tokenizer="english",
    ),
    "v3": WhisperConfig(
        mels=128, audio_context=32, text_context=24, width=64, heads=1, audio_depth=1, text_depth=1, vocab_size=51866
    ),
}  # fmt: skip
REAL = {"whisper-tiny": VARIANTS["whisper-tiny"]}


def inputs(config: WhisperConfig) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    mel = torch.randn(2, config.mels, 2 * config.audio_context, generator=draw)
    return mel, torch.randint(config.vocab_size, (2, 9), generator=draw)


def hf_config(config: WhisperConfig):
    return transformers.WhisperConfig(
        vocab_size=config.vocab_size, num_mel_bins=config.mels, d_model=config.width,
        encoder_layers=config.audio_depth, decoder_layers=config.text_depth,
        encoder_attention_heads=config.heads, decoder_attention_heads=config.heads,
        encoder_ffn_dim=4 * config.width, decoder_ffn_dim=4 * config.width,
        max_source_positions=config.audio_context, max_target_positions=config.text_context,
    )  # fmt: skip


def openai(script: str, folder, *args: object) -> str:
    """Run openai-whisper where our folder of the same name is not in sight."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(script), *map(str, args)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("size", [*SIZES, *REAL])
def test_transformers_both_ways(size, tmp_path):
    config = (SIZES | REAL)[size]
    torch.manual_seed(0)
    theirs = transformers.WhisperForConditionalGeneration(hf_config(config)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = zoo.load(tmp_path / "theirs")
    assert isinstance(ours, Whisper)
    mel, tokens = inputs(config)
    with torch.inference_mode():
        wanted = theirs(input_features=mel, decoder_input_ids=tokens).logits
        torch.testing.assert_close(ours(mel, tokens), wanted, atol=1e-5, rtol=1e-5)
    zoo.save_weights(ours, tmp_path / "back", format="hf")
    again = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "back").eval()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    settings = json.loads((tmp_path / "back" / "generation_config.json").read_text())
    assert settings["decoder_start_token_id"] == (50257 if config.vocab_size == 51864 else 50258)
    assert settings["is_multilingual"] == (config.vocab_size != 51864)


@pytest.mark.parametrize("size", [*SIZES, *REAL])
def test_openai_both_ways(size, tmp_path):
    config = (SIZES | REAL)[size]
    torch.manual_seed(0)
    ours = Whisper(config).eval()
    torch.nn.init.normal_(ours.encoder.norm_out.weight, 1.0, 0.1)
    mel, tokens = inputs(config)
    torch.save({"mel": mel, "tokens": tokens}, tmp_path / "inputs.pt")
    zoo.save_weights(ours, tmp_path / "ours.pt", format="openai")
    openai(
        """
        import torch, whisper
        model = whisper.load_model("ours.pt", device="cpu").eval()
        given = torch.load("inputs.pt")
        whisper.model.MultiHeadAttention.use_sdpa = False
        with torch.inference_mode():
            logits = model(given["mel"], given["tokens"])
        model = model.half()
        content = {"dims": model.dims.__dict__, "model_state_dict": model.state_dict()}
        torch.save({"logits": logits}, "logits.pt")
        torch.save(content, "half.pt")
        """,
        tmp_path,
    )
    with torch.inference_mode():
        wanted = torch.load(tmp_path / "logits.pt")["logits"]
        torch.testing.assert_close(ours(mel, tokens), wanted, atol=1e-5, rtol=1e-5)
    back = zoo.load(tmp_path / "half.pt")  # 16 bits on disk, as released files have
    assert (back.config.heads, back.config.mels) == (config.heads, config.mels)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor.half().float(), back.state_dict()[name]), name
    same = zoo.load(tmp_path / "ours.pt")
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in ours.state_dict().items())


def test_every_released_size_is_recognised_by_its_shapes():
    """From shapes alone the config of each released model comes out, with the heads that follow its words."""
    from zoo.whisper.sizes import from_shapes

    for name, config in VARIANTS.items():
        if config.tokenizer == "bpe":
            continue
        with torch.device("meta"):
            shapes = {key: tuple(tensor.shape) for key, tensor in Whisper(config).state_dict().items()}
        found = from_shapes(shapes)
        assert found is not None
        if name == "whisper-large-v1":
            assert "alignment_heads" in found.assumed
        else:
            assert found.config == config, name


def test_the_real_weights_come_back_bit_for_bit(tmp_path):
    """CTranslate2's file of tiny.en: read, written again, the same numbers under the same names."""
    folder = tiny_en()
    model = zoo.load(folder, dtype=torch.float16)
    zoo.save_weights(
        model, tmp_path / "ct2", format="ctranslate2", preprocessor=WhisperPreprocessor.load(folder, model.config)
    )
    before, told = read_ctranslate2(folder / "model.bin")
    after, again = read_ctranslate2(tmp_path / "ct2" / "model.bin")
    assert told == again
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor, after[name]), name


def test_ctranslate2_reads_what_is_written_for_it(tmp_path):
    """The library itself, with weights in float32 and what it makes of them in int8."""
    import ctranslate2

    model = zoo.load(tiny_en())
    zoo.save_weights(
        model, tmp_path / "ct2", format="ctranslate2", preprocessor=WhisperPreprocessor.load(tiny_en(), model.config)
    )
    mel = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0)) * 0.3
    view = ctranslate2.StorageView.from_array(mel.numpy())
    texts = []
    for folder in (tiny_en(), tmp_path / "ct2"):
        library = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32", intra_threads=1)
        texts.append(library.generate(view, [[50257, 50362]], beam_size=1, max_length=20)[0].sequences_ids)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("precision", ["int8", "int16", "float16", "int8_float32"])
def test_ctranslate2_in_other_types(precision, tmp_path):
    """Files that the library's own converter wrote: whole numbers are widened by their scales."""
    import ctranslate2

    config = SIZES["english"]
    torch.manual_seed(0)
    model = Whisper(config).eval()
    zoo.save_weights(model, tmp_path / "hf", format="hf")
    converter = ctranslate2.converters.TransformersConverter(str(tmp_path / "hf"))
    converter.convert(str(tmp_path / "ct2"), quantization=precision)
    found = zoo.load(tmp_path / "ct2")
    steps = {"int8": 127, "int8_float32": 127, "int16": 1000, "float16": 1000}[precision]
    for name, tensor in model.state_dict().items():
        assert (found.state_dict()[name] - tensor).abs().max() <= 1.01 * tensor.abs().max() / steps, name


def test_what_is_refused(tmp_path):
    nano = Whisper(VARIANTS["whisper-debug"])
    with pytest.raises(UserError, match="brings its own tokenizers"):
        zoo.save_weights(nano, tmp_path / "model.pt", format="openai")
    config = hf_config(SIZES["tiny"])
    config.encoder_attention_heads = 1
    theirs = transformers.WhisperForConditionalGeneration(config)
    theirs.save_pretrained(tmp_path / "uneven")
    with pytest.raises(UserError, match="attention_heads 1 and 2"):
        zoo.load(tmp_path / "uneven")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.bin").write_bytes((tiny_en() / "model.bin").read_bytes()[:5000])
    with pytest.raises(UserError, match="cut short"):
        zoo.load(tmp_path / "cut")
