"""The layers that `auto` picks: as in the paper, and sensible ones of other networks."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader

from lightning_id import record_activations
from lightning_id.recording.layers import auto_layers
from tests.recording.measuring import Runs, measure
from tests.toys import Toy

TORCHVISION = {
    "vgg16": "features.4 features.9 features.16 features.23 features.30"
    " classifier.0 classifier.3 classifier.6",
    "alexnet": "features.2 features.5 features.12 classifier.1 classifier.4 classifier.6",
    "resnet18": "maxpool layer1.0 layer1 layer2 layer3 layer4 avgpool fc",
    "resnet50": "maxpool layer1.0 layer1 layer2 layer3.0 layer3 layer4 avgpool fc",
    "resnet152": "maxpool layer1.0 layer1 layer2 layer3.0 layer3 layer4 avgpool fc",
    "densenet121": "features.pool0 features.denseblock1 features.transition1 features.denseblock2"
    " features.transition2 features.denseblock3 features.transition3 features.denseblock4"
    " classifier",
    "mobilenet_v3_large": "features.0 features.1 features.3 features.4 features.5 features.7"
    " features.8 features.10 features.11 features.12 features.14 features.15 features.16"
    " classifier.0 classifier.3",
    "efficientnet_b0": "features.0 features.1 features.2.0 features.2 features.3 features.4"
    " features.5 features.6 features.7 features.8 avgpool classifier.1",
    "convnext_tiny": "features.0 features.1.0 features.1 features.2 features.3 features.4"
    " features.5.0 features.5 features.6 features.7 avgpool classifier.2",
    "vit_b_16": " ".join(f"encoder.layers.encoder_layer_{i}" for i in range(12)) + " heads.head",
    "swin_t": "features.0 features.1 features.2 features.3 features.4 features.5 features.6"
    " features.7 avgpool head",
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_layers_of_torchvision(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    assert auto_layers(model) == ["input", *TORCHVISION[name].split()]


def test_a_resnet_for_small_images_has_its_stem_although_nothing_is_pooled():
    with torch.device("meta"):
        model = torchvision.models.resnet18(weights=None)
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1), nn.Identity()
    assert auto_layers(model)[:4] == ["input", "maxpool", "layer1.0", "layer1"]


class PaddedConv(nn.Conv2d):
    """A convolution that holds a module, as in EfficientNet-Lite."""

    def __init__(self, *args):
        super().__init__(*args)
        self.padding_module = nn.ZeroPad2d(1)

    def forward(self, x):
        return super().forward(self.padding_module(x))


def test_a_convolution_that_holds_a_module_is_no_block():
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(3)]
    net = nn.Module()
    net.stem, net.norm, net.blocks = PaddedConv(3, 4, 3), nn.BatchNorm2d(4), nn.ModuleList(blocks)
    net.head, net.norm2 = PaddedConv(4, 8, 3), nn.BatchNorm2d(8)
    net.pool, net.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 2)
    net.forward = lambda x: x  # `auto` looks at the modules alone
    ends = ["norm", "blocks.0", "blocks.1", "blocks.2", "norm2", "pool", "fc"]
    assert auto_layers(net) == ["input", *ends]


def test_the_layers_of_a_small_convolutional_network_are_as_they_were():
    assert auto_layers(Toy()) == ["input", "net.3", "net.5", "net.8"]


class Block(nn.Module):
    """A block of a transformer, of Linears alone."""

    def __init__(self, width=8):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.out(self.qkv(x).relu())


class Convolutions(nn.Module):
    def __init__(self, inner=4, outer=8):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inner, outer, 3), nn.Conv2d(outer, outer, 3)

    def forward(self, x):
        return self.conv2(self.conv1(x).relu())


class Encoder(nn.Module):
    def __init__(self, embedding=None):
        super().__init__()
        self.embedding = embedding
        self.block = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = x if self.embedding is None else self.embedding(x)
        for block in self.block:
            x = block(x)
        return self.norm(x)


class EncoderDecoder(nn.Module):
    """As T5: two stacks of one class that share the embedding."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(20, 8)
        self.encoder, self.decoder = Encoder(self.shared), Encoder(self.shared)
        self.head = nn.Linear(8, 20)

    def forward(self, x):
        return self.head(self.encoder(x) + self.decoder(x))


class Momentum(nn.Module):
    """As MoCo and BYOL: a backbone and a head, and copies of both."""

    def __init__(self):
        super().__init__()
        resnet = torchvision.models.resnet18(weights=None)
        self.backbone = nn.Sequential(*list(resnet.children())[:-1])
        self.projection = nn.Sequential(nn.Linear(512, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_momentum = copy.deepcopy(self.projection)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 8))

    def forward(self, x):
        return self.decoder(self.encoder(x))


class ConvolutionalAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3)
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 1, 3), nn.Sigmoid()
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Attributes(nn.Module):
    """Convolutions as attributes, pooled and activated by functions."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.dropout = nn.Dropout()
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 2)


class UNet(nn.Module):
    """As diffusers writes it: stages in lists that are never called, convolutions at both ends."""

    class Middle(nn.Module):
        def __init__(self):
            super().__init__()
            self.attentions = nn.ModuleList([nn.Linear(4, 4)])
            self.resnets = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 3))])

        def forward(self, x):
            return x

    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(1, 4, 3)
        self.down_blocks = nn.ModuleList([Convolutions(), Convolutions()])
        self.up_blocks = nn.ModuleList([Convolutions(), Convolutions()])
        self.mid_block = self.Middle()
        self.norm_out, self.conv_out = nn.GroupNorm(1, 4), nn.Conv2d(4, 1, 3)


class Nested(nn.Module):
    """As x-transformers: lists of lists, of norms and blocks."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([nn.ModuleList([nn.LayerNorm(8)]), Block(), nn.Identity()])
            for _ in range(3)
        )
        self.to_logits = nn.Linear(8, 4)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.drop = nn.Embedding(20, 8), nn.Dropout()
        self.rnn, self.decoder = nn.LSTM(8, 8, num_layers=2), nn.Linear(8, 20)


class Embeddings(nn.Module):
    """As BERT: a sum of embeddings with a norm, then blocks."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(20, 8), nn.Embedding(9, 8)
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(self.words(x) + self.places.weight[: x.shape[1]])

    def __init__(self):
        super().__init__()
        self.embeddings, self.encoder = self.Sum(), Encoder()
        self.classifier = nn.Linear(8, 2)


class Tied(nn.Module):
    """As T5 is now: embeddings of encoder and decoder have the weights of a third."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(20, 8)
        self.encoder, self.decoder = (Encoder(nn.Embedding(20, 8)) for _ in range(2))
        self.encoder.embedding.weight = self.decoder.embedding.weight = self.shared.weight
        self.head = nn.Linear(8, 20)


class Part(nn.Module):
    """A module that is called."""

    def forward(self, x):
        return x


class Distillation(nn.Module):
    """As DINO: backbones of convolutions, and heads of Linears in a row."""

    class Head(Part):
        def __init__(self):
            super().__init__()
            self.layers, self.last = nn.Sequential(nn.Linear(8, 8), nn.GELU()), nn.Linear(8, 4)

    def __init__(self):
        super().__init__()
        self.student, self.student_head = self.backbone(), self.Head()
        self.teacher, self.teacher_head = self.backbone(), self.Head()

    def backbone(self):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3), nn.MaxPool2d(2)
        )


class Graphs(nn.Module):
    """As torch-geometric: a matrix and a sum over neighbours, in a Linear of its own."""

    class Matrix(Part):
        def __init__(self, outputs):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(outputs, 8))
            self.register_parameter("bias", None)

    class Convolution(Part):
        def __init__(self):
            super().__init__()
            self.aggregate, self.lin = nn.Identity(), Graphs.Matrix(8)
            self.bias = nn.Parameter(torch.randn(8))

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = self.Convolution(), self.Convolution(), self.Matrix(2)


class NestedUNet(nn.Module):
    """As MONAI: down, what lies between, up; no two of them alike."""

    class Residual(Part):
        def __init__(self, inner, outer):
            super().__init__()
            self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(inner, outer, 3), nn.PReLU()))
            self.residual = nn.Conv2d(inner, outer, 1)

    class Skip(Part):
        def __init__(self, submodule):
            super().__init__()
            self.submodule = submodule

    def __init__(self):
        super().__init__()
        bottom = self.Skip(self.Residual(8, 16))
        middle = nn.Sequential(self.Residual(4, 8), bottom, self.up(24, 4))
        self.model = nn.Sequential(self.Residual(1, 4), self.Skip(middle), self.up(8, 1))

    def up(self, inner, outer):
        transposed = nn.Sequential(nn.ConvTranspose2d(inner, outer, 3), nn.PReLU())
        return nn.Sequential(transposed, self.Residual(outer, outer))


ARCHITECTURES = {
    Tied: "encoder.embedding encoder.block.0 encoder.block.1 encoder.block.2"
    " decoder.block.0 decoder.block.1 decoder.block.2 head",
    Distillation: "student.1 student.3 student_head teacher.1 teacher.3 teacher_head",
    Graphs: "first second head",
    NestedUNet: "model.0 model.1.submodule.0 model.1.submodule.1 model.1.submodule.2.0"
    " model.1.submodule.2.1 model.2.0 model.2.1",
    EncoderDecoder: "shared encoder.block.0 encoder.block.1 encoder.block.2"
    " decoder.block.0 decoder.block.1 decoder.block.2 head",
    Autoencoder: "encoder.0 encoder.2 decoder.0 decoder.2",
    ConvolutionalAutoencoder: "encoder.3 encoder.4 decoder.1 decoder.3",
    Attributes: "conv1 conv2 fc1 fc2",
    UNet: "conv_in down_blocks.0 down_blocks.1 up_blocks.0 up_blocks.1 mid_block conv_out",
    Nested: "layers.0.1 layers.1.1 layers.2.1 to_logits",
    Recurrent: "encoder rnn decoder",
    Embeddings: "embeddings encoder.block.0 encoder.block.1 encoder.block.2 classifier",
    Encoder: "block.0 block.1 block.2 norm",
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_layers_of_other_architectures(kind):
    expected = ARCHITECTURES[kind].split()
    assert auto_layers(kind()) == ["input", *expected]
    assert auto_layers(nn.ModuleDict({"net": kind()})) == ["input", *(f"net.{x}" for x in expected)]


def test_both_branches_of_a_momentum_network_are_looked_into():
    with torch.device("meta"):
        picked = auto_layers(Momentum())
    assert len(picked) == 16
    for branch in ("backbone.", "projection.", "backbone_momentum.", "projection_momentum."):
        assert any(name.startswith(branch) for name in picked), branch


def test_a_module_with_two_names_is_picked_once():
    model = nn.ModuleDict({"a": nn.ModuleDict({"fc": nn.Linear(2, 2)}), "head": nn.Linear(2, 2)})
    model["b"] = nn.ModuleDict({"again": model["a"]["fc"], "fc": nn.Linear(2, 2)})
    assert auto_layers(model) == ["input", "a.fc", "head", "b.fc"]


def test_what_auto_picks_is_called():
    """Containers are never called: each layer of these networks has a number."""
    images, rows, ids = torch.randn(40, 1, 12, 12), torch.randn(40, 8), torch.arange(800) % 20
    for net, data in [
        (Autoencoder(), rows),
        (ConvolutionalAutoencoder(), images),
        (Encoder(), rows[:, None]),
        (EncoderDecoder(), ids.reshape(40, 20)),
    ]:
        found = measure(Runs(net), DataLoader(data, batch_size=8)).records
        assert None not in {record["depth"] for record in found.values()}, type(net)


class Iterated(nn.Module):
    """Runs the modules of its stages one after another; the stages are never called."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.stage2 = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))

    def forward(self, x):
        for stage in (self.stage1, self.stage2):
            for layer in stage:
                x = layer(x)
        return x


def test_a_sequential_that_is_run_module_by_module_is_measured_at_its_end():
    net, x = Iterated().eval(), torch.randn(12, 8)
    with record_activations(net, ["stage1", "stage2"]) as rows:
        output = net(x)
    assert torch.equal(rows["stage2"], output)
    assert torch.equal(rows["stage1"], net.stage1(x))


def test_a_sequential_whose_last_module_is_used_elsewhere_is_measured_itself():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Sequential(nn.Linear(8, 8), relu), nn.Sequential(nn.Linear(8, 4), relu))
    x = torch.randn(12, 8)
    with record_activations(net, ["0", "1"]) as rows:
        output = net(x)
    assert torch.equal(rows["1"], output)


def test_the_reason_of_a_container_names_it():
    loader = DataLoader(torch.randn(40, 1, 8), 8)
    found = measure(Runs(Encoder()), loader, ["net.block"])
    reason = "ModuleList has no forward of its own and is never called; name the modules in it"
    assert found.records["net.block"]["reason"] == reason
    assert found.remarks["net.block"] == [f"no twonn dimension: {reason}"]


class Transformer(nn.Module):
    def __init__(self, n_blocks):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(9, 8), nn.Embedding(9, 8)
        self.h = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(n_blocks)
        )
        self.ln_f, self.head = nn.LayerNorm(8), nn.Linear(8, 9)


def test_the_first_and_the_last_block_of_a_deep_transformer_are_picked():
    assert auto_layers(Transformer(32)) == [
        "input",
        "wte",
        *(f"h.{i}" for i in (0, 3, 5, 8, 10, 13, 16, 18, 21, 23, 26, 28, 31)),
        "head",
    ]
    both = nn.Module()
    both.encoder, both.decoder = Transformer(12), Transformer(24)
    both.encoder.head = None
    picked = auto_layers(both)
    assert len(picked) <= 16
    ends = ["encoder.h.0", "encoder.h.11", "decoder.h.0", "decoder.h.23"]
    assert set(ends) <= set(picked)


def test_of_few_blocks_all_are_picked_and_no_position_embedding():
    assert auto_layers(Transformer(3)) == ["input", "wte", "h.0", "h.1", "h.2", "head"]
