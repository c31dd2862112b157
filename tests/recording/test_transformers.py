"""Rows of networks of Hugging Face: their own hidden states, to the bit."""

import pytest
import pytorch_lightning as pl
import torch
import transformers

from lightning_id import record_activations
from lightning_id.recording.layers import auto_layers

LENGTHS = torch.tensor([3, 9, 1, 5, 7, 2])


def tiny(family):
    """Return a network of random weights, and names of layers by their hidden state."""
    pl.seed_everything(0, verbose=False)
    small = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16}
    more = {"intermediate_size": 32, "vocab_size": 40, "pad_token_id": 0}
    if family == "GPT-2":
        config = transformers.GPT2Config(
            vocab_size=40, n_positions=12, n_embd=16, n_layer=3, n_head=2
        )
        return transformers.GPT2Model(config), {"drop": 0, "h.0": 1, "h.1": 2, "ln_f": 3}
    if family == "Llama":
        config = transformers.LlamaConfig(**small, **more, num_key_value_heads=2)
        names = {"embed_tokens": 0, "layers.0": 1, "layers.1": 2, "norm": 3}
        return transformers.LlamaModel(config), names
    if family == "BERT":
        names = {"embeddings": 0} | {f"encoder.layer.{i}": i + 1 for i in range(3)}
        return transformers.BertModel(transformers.BertConfig(**small, **more)), names
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2
    )
    names = {"embed_tokens": 0, "block.0": 1, "block.1": 2, "final_layer_norm": 3}
    net = transformers.T5EncoderModel(config)
    return net, {f"encoder.{name}": i for name, i in names.items()}


def vit():
    pl.seed_everything(0, verbose=False)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    return transformers.ViTModel(config)


def batch(side):
    places = torch.arange(9)
    after = places >= 9 - LENGTHS[:, None] if side == "left" else places < LENGTHS[:, None]
    ids = torch.randint(1, 40, (6, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids * after, "attention_mask": after.long()}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["GPT-2", "Llama", "BERT", "T5"])
def test_rows_equal_the_hidden_states_at_the_true_tokens(family, side):
    net, layers = tiny(family)
    net.eval()
    inputs = batch(side)
    is_true = inputs["attention_mask"] == 1
    expected = {
        "cls": lambda x: torch.stack([t[m][0] for t, m in zip(x, is_true, strict=True)]),
        "last": lambda x: torch.stack([t[m][-1] for t, m in zip(x, is_true, strict=True)]),
        "tokens": lambda x: x[is_true],
    }
    for reduce, of_states in expected.items():
        with torch.no_grad(), record_activations(net, list(layers), 27, reduce) as rows:
            states = net(**inputs, output_hidden_states=True).hidden_states
        for name, i in layers.items():
            assert torch.equal(rows[name], of_states(states[i])), (name, reduce)
    with torch.no_grad(), record_activations(net, list(layers), 27, "mean") as rows:
        net(**inputs)
    for name, i in layers.items():
        mean = torch.stack([t[m].mean(0) for t, m in zip(states[i], is_true, strict=True)])
        torch.testing.assert_close(rows[name], mean)


@pytest.mark.parametrize("family", ["Llama", "BERT"])
def test_without_a_mask_the_padding_token_of_the_config_is_left_out(family):
    net, layers = tiny(family)
    inputs = batch("right")
    name = next(iter(layers))
    with torch.no_grad(), record_activations(net.eval(), [name], 6, "last") as rows:
        states = net(inputs["input_ids"], output_hidden_states=True).hidden_states
    assert torch.equal(rows[name], states[0][torch.arange(6), LENGTHS - 1])


def test_rows_of_image_patches_equal_the_hidden_states():
    net = vit().eval()
    names = [name for name, module in net.named_modules() if type(module).__name__ == "ViTLayer"]
    for reduce, at in (("cls", 0), ("last", -1)):
        with torch.no_grad(), record_activations(net, names, 5, reduce) as rows:
            states = net(torch.randn(5, 3, 32, 32), output_hidden_states=True).hidden_states
        for i, name in enumerate(names, start=1):
            assert torch.equal(rows[name], states[i][:, at])


@pytest.mark.parametrize("is_masked", [True, False])
def test_a_decoder_that_has_an_encoder_has_a_mask_of_its_own(is_masked):
    pl.seed_everything(0, verbose=False)
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    net = transformers.T5ForConditionalGeneration(config).eval()
    inputs = batch("right")
    inputs["decoder_input_ids"] = torch.full((6, 9), 7)
    mask = (torch.arange(9) < LENGTHS.flip(0)[:, None]).long()
    inputs |= {"decoder_attention_mask": mask} if is_masked else {}
    layers = ["encoder.block.0", "decoder.block.0", "lm_head"]
    with torch.no_grad(), record_activations(net, layers, 6, "last") as rows:
        out = net(**inputs, output_hidden_states=True)
    i, last = torch.arange(6), LENGTHS.flip(0) - 1 if is_masked else torch.full((6,), 8)
    assert torch.equal(rows["encoder.block.0"], out.encoder_hidden_states[1][i, LENGTHS - 1])
    assert torch.equal(rows["decoder.block.0"], out.decoder_hidden_states[1][i, last])
    assert torch.equal(rows["lm_head"], out.logits[i, last])


AUTO = {
    "GPT-2": "wte h.0 h.1 h.2 ln_f",
    "Llama": "embed_tokens layers.0 layers.1 layers.2 norm",
    "BERT": "embeddings encoder.layer.0 encoder.layer.1 encoder.layer.2 pooler.dense",
    "T5": "encoder.embed_tokens encoder.block.0 encoder.block.1 encoder.block.2"
    " encoder.final_layer_norm",
    "ViT": "embeddings {} {} {} pooler.dense",
}


@pytest.mark.parametrize("family", AUTO)
def test_auto_picks_embeddings_blocks_and_the_end_and_all_are_called(family):
    if family == "ViT":
        net, batches = vit(), {"pixel_values": torch.randn(6, 3, 32, 32)}
    else:
        (net, _), batches = tiny(family), batch("right")
    names = auto_layers(net)
    blocks = (name for name, module in net.named_modules() if type(module).__name__ == "ViTLayer")
    assert names == ["input", *AUTO[family].format(*blocks).split()]
    with torch.no_grad(), record_activations(net.eval(), names[1:], 6, "mean") as rows:
        net(**batches)
    assert {name: tuple(x.shape) for name, x in rows.items()} == dict.fromkeys(names[1:], (6, 16))
