"""`lightning-id profile FOLDER --text FILE`, on a tiny encoder in a folder of `save_pretrained`."""

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from lightning_id.functional import change, twonn_dimension
from lightning_id.history import History
from lightning_id.profile import command
from lightning_id.profile.run import Settings
from lightning_id.profile.text import load_text_network, profile_text, read_text
from tests.toy_text import save_encoder

WORDS = [f"w{i}" for i in range(60)]


def no_comparison(histories, folder):
    raise AssertionError("one network is compared with none")


@pytest.fixture
def lines(tmp_path):
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 9, (80,), generator=draw).tolist()
    texts = [
        " ".join(WORDS[i] for i in torch.randint(60, (n,), generator=draw).tolist())
        for n in lengths
    ]
    file = tmp_path / "lines.txt"
    file.write_text("\n".join([*texts, "", texts[0]]))
    return file


@pytest.fixture
def folder(tmp_path):
    return save_encoder(tmp_path / "model", WORDS)


def test_texts_are_taken_once_and_shuffling_keeps_their_words(lines):
    plain, mixed = (read_text(lines, 50, seed=0, shuffles_words=each) for each in (False, True))
    assert len(plain.lines) == len(set(plain.lines)) == 50
    assert any("1 repeated" in note for note in plain.notes)
    assert [sorted(x.split()) for x in plain.lines] == [sorted(x.split()) for x in mixed.lines]
    assert plain.lines != mixed.lines
    assert read_text(lines, 50, seed=0, shuffles_words=True) == mixed
    empty = lines.with_name("empty.txt")
    empty.write_text("\n\n")
    with pytest.raises(ValueError, match="`--text`: expected lines of text"):
        read_text(empty, 50, seed=0)


def test_trained_and_untrained_weights_on_the_means_over_true_tokens(folder, lines, tmp_path):
    out = tmp_path / "out"
    layers = "embeddings,encoder.layer.0,encoder.layer.1"
    before = torch.get_rng_state()
    words = [str(folder), "--text", str(lines), "--both", "--layers", layers, "--out", str(out)]
    command.main([*words, "--batch-size", "32"], compare=no_comparison)
    assert torch.equal(torch.get_rng_state(), before)
    assert (out / "report.html").exists()
    history = History.load(out)
    assert [v.stage for v in history.validations()] == ["before_training", "validate"]

    texts, rows = read_text(lines, 2000, seed=0).lines, {}
    for untrained, stage in ((True, "before_training"), (False, "validate")):
        network, collate = load_text_network(str(folder), untrained, seed=0)
        batch = collate(texts)
        mask = batch["attention_mask"][..., None]
        with torch.no_grad():
            hidden = network.eval()(**batch, output_hidden_states=True).hidden_states
        expected = [twonn_dimension((h * mask).sum(1) / mask.sum(1)).value for h in hidden]
        records = [r for r in history.records if r["stage"] == stage and r["label"] is None]
        found = {r["layer"]: r for r in records if r["estimator"] == "twonn"}
        here = [found[name] for name in layers.split(",")]
        assert [r["value"] for r in here] == pytest.approx(expected, rel=1e-4)
        rows[stage] = [(h * mask).sum(1) / mask.sum(1) for h in hidden]
        highest = max(range(3), key=expected.__getitem__)
        for record, x in zip(here, rows[stage], strict=True):
            error = change(rows[stage][highest], x).std_error
            assert record["from_peak_std_error"] == pytest.approx(error, rel=1e-3, abs=1e-4)
    for record, pair in zip(here, zip(*rows.values(), strict=True), strict=True):
        assert record["change"] == pytest.approx(change(*pair).value, abs=1e-3)
        assert record["change_std_error"] == pytest.approx(change(*pair).std_error, rel=1e-3)


def test_options_of_images_are_refused(folder, lines, capsys):
    with pytest.raises(SystemExit):
        command.main(
            [str(folder), "--text", str(lines), "--image-size", "8", "--layers", "x"],
            compare=no_comparison,
        )
    assert "`--image-size`: expected none with --text" in capsys.readouterr().err


def family(name):
    """Return a tiny network of a family, whose rows are also its own hidden states."""
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
    if name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=64, n_positions=16, n_embd=16, n_layer=2, n_head=2
        )
        return transformers.GPT2LMHeadModel(config)
    if name == "llama":
        config = transformers.LlamaConfig(**small, intermediate_size=32, num_key_value_heads=2)
        return transformers.LlamaForCausalLM(config)
    config = transformers.T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    return transformers.T5ForConditionalGeneration(config)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_every_family_is_measured_in_its_own_hidden_states(name, lines, tmp_path):
    folder, out = tmp_path / name, tmp_path / "out"
    transformers.set_seed(0)
    family(name).save_pretrained(folder)
    words = {word: i for i, word in enumerate(["[UNK]", "[END]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(words, "[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]"
    ).save_pretrained(folder)
    command.main([str(folder), "--text", str(lines), "--out", str(out)], compare=no_comparison)
    records = History.load(out).records
    found = [r["value"] for r in records if r["estimator"] == "twonn"]

    network, collate = load_text_network(str(folder), untrained=False, seed=0)
    batch = collate(read_text(lines, 2000, seed=0).lines)
    mask = batch["attention_mask"][..., None]
    with torch.no_grad():
        hidden = network.eval()(**batch, output_hidden_states=True).hidden_states
    for state in hidden[1:]:
        expected = twonn_dimension((state * mask).sum(1) / mask.sum(1)).value
        assert any(value == pytest.approx(expected, rel=1e-4) for value in found), (name, found)


def test_a_network_of_images_has_no_tokenizer_for_text(lines, tmp_path, capsys):
    transformers.ViTModel(
        transformers.ViTConfig(num_hidden_layers=1, hidden_size=12)
    ).save_pretrained(tmp_path / "vit")
    with pytest.raises(SystemExit):
        command.main([str(tmp_path / "vit"), "--text", str(lines)], compare=no_comparison)
    assert "`MODEL`: expected a folder of save_pretrained with model and tok" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_network_of_text_is_measured_on_the_gpu(folder, lines):
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    history = profile_text(str(folder), read_text(lines, 50, seed=0), Settings(reduce="mean"))
    assert torch.cuda.max_memory_allocated() > before
    assert all(record["reason"] is None for record in history.records)
