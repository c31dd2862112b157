"""`lightning-id profile FOLDER --text FILE`, on a tiny encoder in a folder of `save_pretrained`."""

import pytest
import torch

from lightning_id.functional import twonn_dimension
from lightning_id.history import History
from lightning_id.profile import command
from lightning_id.profile.text import load_text_network, read_text

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
    transformers = pytest.importorskip("transformers")
    place = tmp_path / "model"
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    transformers.BertTokenizer(str(vocabulary)).save_pretrained(place)
    config = transformers.BertConfig(
        vocab_size=65,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    transformers.set_seed(5)
    transformers.BertModel(config).save_pretrained(place)
    return place


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

    texts = read_text(lines, 2000, seed=0).lines
    for untrained, stage in ((True, "before_training"), (False, "validate")):
        network, collate = load_text_network(str(folder), untrained, seed=0)
        batch = collate(texts)
        mask = batch["attention_mask"][..., None]
        with torch.no_grad():
            hidden = network.eval()(**batch, output_hidden_states=True).hidden_states
        expected = [twonn_dimension((h * mask).sum(1) / mask.sum(1)).value for h in hidden]
        records = [r for r in history.records if r["stage"] == stage and r["label"] is None]
        found = {r["layer"]: r["value"] for r in records if r["estimator"] == "twonn"}
        assert [found[name] for name in layers.split(",")] == pytest.approx(expected, rel=1e-4)


def test_options_of_images_are_refused(folder, lines, capsys):
    with pytest.raises(SystemExit):
        command.main(
            [str(folder), "--text", str(lines), "--image-size", "8", "--layers", "x"],
            compare=no_comparison,
        )
    assert "`--image-size`: expected none with --text" in capsys.readouterr().err
