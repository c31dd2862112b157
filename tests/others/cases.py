"""The cases: a module of each package as its users would train it, small, on made-up data."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import Dataset, TensorDataset

from tests.others.harness import BATCH, N_TRAIN, N_VAL, Case, Trained, loader

Made = tuple[pl.LightningModule, Any, Any]


class Rows(Dataset):
    """A data set whose items are dictionaries."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {name: column[i] for name, column in self.columns.items()}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, seed: int, size: int = 32, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Noise that a few directions dominate, and the class that the first of them gives."""
    codes = torch.randn(n, 6, generator=generator(seed))
    waves = torch.randn(6, channels, size // 4, size // 4, generator=generator(0))
    waves = nn.functional.interpolate(waves, scale_factor=4, mode="bilinear")
    noise = torch.randn(n, channels, size, size, generator=generator(seed + 1))
    x = torch.einsum("nk,kchw->nchw", codes, waves) + 0.1 * noise
    return x, (codes[:, 0] > 0).long()


def tokens(n: int, seed: int, length: int = 12, words: int = 40) -> Tensor:
    return torch.randint(3, words, (n, length), generator=generator(seed))


def classified(net: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return cross_entropy(net(x), y)


def of_images(net: nn.Module, loss: Any = classified, **kwargs: int) -> Made:
    train, val = (TensorDataset(*images(n, n, **kwargs)) for n in (N_TRAIN, N_VAL))
    return Trained(net, loss), loader(train), loader(val)


def own_loss(net: nn.Module, batch: Any) -> Tensor:
    return net(**batch).loss


# --- timm ----------------------------------------------------------------------------------------


def timm_resnet() -> Made:
    import timm

    return of_images(timm.create_model("resnet18", num_classes=2))


def timm_vit() -> Made:
    import timm

    net = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        depth=4,
        embed_dim=32,
        num_heads=2,
        num_classes=2,
    )
    return of_images(net)


def timm_swin() -> Made:
    import timm

    net = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=2,
        embed_dim=16,
        depths=(2, 2, 2),
        num_heads=(2, 2, 4),
        num_classes=2,
    )
    return of_images(net)


def timm_convnext() -> Made:
    import timm

    net = timm.create_model(
        "convnext_atto", depths=(1, 1, 3, 1), dims=(8, 16, 32, 64), num_classes=2
    )
    return of_images(net)


# --- transformers --------------------------------------------------------------------------------


def gpt2() -> Made:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=40, n_positions=12, n_embd=16, n_layer=3, n_head=2)
    train, val = (Rows(input_ids=tokens(n, n), labels=tokens(n, n)) for n in (N_TRAIN, N_VAL))
    return Trained(GPT2LMHeadModel(config), own_loss), loader(train), loader(val)


def texts(n: int) -> Rows:
    lengths = torch.randint(4, 13, (n, 1), generator=generator(n))
    mask = (torch.arange(12) < lengths).long()
    ids = tokens(n, n) * mask
    return Rows(input_ids=ids, attention_mask=mask, labels=(ids[:, 0] > 20).long())


def bert() -> Made:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    net = BertForSequenceClassification(config)
    return Trained(net, own_loss), loader(texts(N_TRAIN)), loader(texts(N_VAL))


def t5() -> Made:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=40,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
    train, val = (
        Rows(input_ids=tokens(n, n), labels=tokens(n, n + 1, length=8)) for n in (N_TRAIN, N_VAL)
    )
    return Trained(T5ForConditionalGeneration(config), own_loss), loader(train), loader(val)


def hf_vit() -> Made:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        num_labels=2,
    )
    train, val = (
        Rows(**dict(zip(("pixel_values", "labels"), images(n, n), strict=True)))
        for n in (N_TRAIN, N_VAL)
    )
    return Trained(ViTForImageClassification(config), own_loss), loader(train), loader(val)


# --- diffusion -----------------------------------------------------------------------------------


def unet2d() -> Made:
    from diffusers import DDPMScheduler, UNet2DModel

    net = UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        norm_num_groups=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )
    scheduler = DDPMScheduler(num_train_timesteps=50)

    def loss(net: nn.Module, batch: Any) -> Tensor:
        x, _ = batch
        noise, t = torch.randn_like(x), torch.randint(50, (len(x),))
        return mse_loss(net(scheduler.add_noise(x, noise, t), t).sample, noise)

    return of_images(net, loss, size=16, channels=1)


def lucid_diffusion() -> Made:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    net = GaussianDiffusion(
        Unet(dim=8, dim_mults=(1, 2), channels=1, flash_attn=False, attn_dim_head=8, attn_heads=2),
        image_size=16,
        timesteps=50,
    )
    return of_images(net, lambda net, batch: net(batch[0].sigmoid()), size=16, channels=1)


# --- graphs --------------------------------------------------------------------------------------


def graphs(n: int) -> list[Any]:
    from torch_geometric.data import Data

    made = []
    rng = generator(n)
    for _ in range(n):
        nodes = int(torch.randint(5, 10, (1,), generator=rng))
        edges = torch.randint(nodes, (2, 3 * nodes), generator=rng)
        x = torch.randn(nodes, 7, generator=rng)
        made.append(Data(x=x, edge_index=edges, y=(x.mean() > 0).long().view(1)))
    return made


def gin() -> Made:
    import torch_geometric.nn as gnn
    from torch_geometric.loader import DataLoader

    class Gin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = gnn.GIN(7, 16, num_layers=3)
            self.head = gnn.MLP([16, 16, 2], dropout=0.0)

        def forward(self, batch: Any) -> Tensor:
            x = self.conv(batch.x, batch.edge_index)
            return self.head(gnn.global_add_pool(x, batch.batch))

    def loss(net: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(net(batch), batch.y)

    train, val = (DataLoader(graphs(n), batch_size=BATCH) for n in (N_TRAIN, N_VAL))
    return Trained(Gin(), loss), train, val


def gcn() -> Made:
    import torch_geometric.nn as gnn
    from torch_geometric.loader import DataLoader

    class Gcn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = gnn.GCNConv(7, 16), gnn.GCNConv(16, 16)
            self.head = nn.Linear(16, 2)

        def forward(self, batch: Any) -> Tensor:
            x = self.first(batch.x, batch.edge_index).relu()
            x = self.second(x, batch.edge_index).relu()
            return self.head(gnn.global_mean_pool(x, batch.batch))

    def loss(net: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(net(batch), batch.y)

    train, val = (DataLoader(graphs(n), batch_size=BATCH) for n in (N_TRAIN, N_VAL))
    return Trained(Gcn(), loss), train, val


# --- self-supervision ----------------------------------------------------------------------------


class Views(Dataset):
    """Two augmented views of each image."""

    def __init__(self, n: int) -> None:
        self.x = images(n, n, size=16)[0]
        self.noise = torch.randn(2, *self.x.shape, generator=generator(n))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[list[Tensor], int]:
        return [self.x[i] + 0.1 * self.noise[0, i], self.x[i] + 0.1 * self.noise[1, i]], 0


def backbone() -> nn.Module:
    import torchvision

    net = torchvision.models.resnet18(weights=None)
    return nn.Sequential(*list(net.children())[:-1])


def of_views(module: pl.LightningModule) -> Made:
    return module, loader(Views(N_TRAIN)), loader(Views(N_VAL))


class SelfSupervised(pl.LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch[0])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch[0]), batch_size=BATCH)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], 0.05)


def simclr() -> Made:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    class SimCLR(SelfSupervised):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone()
            self.projection_head = SimCLRProjectionHead(512, 32, 16)
            self.criterion = NTXentLoss()

        def forward(self, x: Tensor) -> Tensor:
            return self.projection_head(self.backbone(x).flatten(1))

        def loss(self, views: list[Tensor]) -> Tensor:
            return self.criterion(self(views[0]), self(views[1]))

    return of_views(SimCLR())


def simclr_concatenated() -> Made:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    class SimCLR(SelfSupervised):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone()
            self.projection_head = SimCLRProjectionHead(512, 32, 16)
            self.criterion = NTXentLoss()

        def loss(self, views: list[Tensor]) -> Tensor:
            z = self.projection_head(self.backbone(torch.cat(views)).flatten(1))
            return self.criterion(*z.chunk(2))

    return of_views(SimCLR())


def byol() -> Made:
    import copy

    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    class BYOL(SelfSupervised):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone()
            self.projection_head = BYOLProjectionHead(512, 32, 16)
            self.prediction_head = BYOLPredictionHead(16, 32, 16)
            self.backbone_momentum = copy.deepcopy(self.backbone)
            self.projection_head_momentum = copy.deepcopy(self.projection_head)
            deactivate_requires_grad(self.backbone_momentum)
            deactivate_requires_grad(self.projection_head_momentum)
            self.criterion = NegativeCosineSimilarity()

        def forward(self, x: Tensor) -> Tensor:
            return self.prediction_head(self.projection_head(self.backbone(x).flatten(1)))

        def forward_momentum(self, x: Tensor) -> Tensor:
            y = self.backbone_momentum(x).flatten(1)
            return self.projection_head_momentum(y).detach()

        def loss(self, views: list[Tensor]) -> Tensor:
            if self.training:
                update_momentum(self.backbone, self.backbone_momentum, m=0.9)
                update_momentum(self.projection_head, self.projection_head_momentum, m=0.9)
            p0, z0 = self(views[0]), self.forward_momentum(views[0])
            p1, z1 = self(views[1]), self.forward_momentum(views[1])
            return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))

    return of_views(BYOL())


def moco() -> Made:
    import copy

    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    class MoCo(SelfSupervised):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone()
            self.projection_head = MoCoProjectionHead(512, 32, 16)
            self.backbone_momentum = copy.deepcopy(self.backbone)
            self.projection_head_momentum = copy.deepcopy(self.projection_head)
            deactivate_requires_grad(self.backbone_momentum)
            deactivate_requires_grad(self.projection_head_momentum)
            self.criterion = NTXentLoss(memory_bank_size=(64, 16))

        def loss(self, views: list[Tensor]) -> Tensor:
            if self.training:
                update_momentum(self.backbone, self.backbone_momentum, m=0.9)
                update_momentum(self.projection_head, self.projection_head_momentum, m=0.9)
            query = self.projection_head(self.backbone(views[0]).flatten(1))
            key = self.projection_head_momentum(self.backbone_momentum(views[1]).flatten(1))
            return self.criterion(query, key.detach())

    return of_views(MoCo())


def dino() -> Made:
    import copy

    from lightly.loss import DINOLoss
    from lightly.models.modules import DINOProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    class DINO(SelfSupervised):
        def __init__(self) -> None:
            super().__init__()
            self.student_backbone = backbone()
            self.student_head = DINOProjectionHead(512, 32, 16, 24, freeze_last_layer=0)
            self.teacher_backbone = copy.deepcopy(self.student_backbone)
            self.teacher_head = DINOProjectionHead(512, 32, 16, 24)
            deactivate_requires_grad(self.teacher_backbone)
            deactivate_requires_grad(self.teacher_head)
            self.criterion = DINOLoss(output_dim=24, warmup_teacher_temp_epochs=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.student_head(self.student_backbone(x).flatten(1))

        def forward_teacher(self, x: Tensor) -> Tensor:
            return self.teacher_head(self.teacher_backbone(x).flatten(1))

        def loss(self, views: list[Tensor]) -> Tensor:
            if self.training:
                update_momentum(self.student_backbone, self.teacher_backbone, m=0.9)
                update_momentum(self.student_head, self.teacher_head, m=0.9)
            teacher = [self.forward_teacher(view) for view in views]
            student = [self(view) for view in views]
            return self.criterion(teacher, student, epoch=self.current_epoch)

    return of_views(DINO())


# --- time series ---------------------------------------------------------------------------------


def series(n_series: int = 12, steps: int = 36) -> Any:
    import pandas as pd

    rng = generator(0)
    frames = []
    for i in range(n_series):
        noise = torch.randn(steps, generator=rng)
        level = torch.sin(torch.arange(steps) / (2 + i)) + 0.3 * noise
        frames.append(
            pd.DataFrame(
                {
                    "t": range(steps),
                    "series": str(i),
                    "value": level.double().numpy(),
                    "other": noise.double().numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def forecasting(known: dict[str, Any]) -> tuple[Any, Any, Any]:
    from pytorch_forecasting import TimeSeriesDataSet

    data = TimeSeriesDataSet(
        series(),
        time_idx="t",
        target="value",
        group_ids=["series"],
        min_encoder_length=10,
        max_encoder_length=10,
        min_prediction_length=4,
        max_prediction_length=4,
        time_varying_unknown_reals=["value"],
        **known,
    )
    train = data.to_dataloader(train=True, batch_size=BATCH, num_workers=0)
    val = data.to_dataloader(train=False, batch_size=BATCH, num_workers=0)
    return data, train, val


def tft() -> Made:
    from pytorch_forecasting import TemporalFusionTransformer

    data, train, val = forecasting(
        {"static_categoricals": ["series"], "time_varying_known_reals": ["t", "other"]}
    )
    net = TemporalFusionTransformer.from_dataset(
        data, hidden_size=8, attention_head_size=2, hidden_continuous_size=4, learning_rate=1e-3
    )
    return net, train, val


def nbeats() -> Made:
    from pytorch_forecasting import NBeats

    data, train, val = forecasting({})
    net = NBeats.from_dataset(data, widths=[16, 24], num_block_layers=[2, 2], learning_rate=1e-3)
    return net, train, val


# --- tables --------------------------------------------------------------------------------------


def table(n: int) -> TensorDataset:
    x = torch.randn(n, 10, generator=generator(n))
    return TensorDataset(x, (x[:, 0] + x[:, 1] > 0).long())


def tabnet() -> Made:
    from pytorch_tabnet.tab_network import TabNet

    net = TabNet(
        10, 2, n_d=8, n_a=8, n_steps=3, virtual_batch_size=16, group_attention_matrix=torch.eye(10)
    )

    def loss(net: nn.Module, batch: Any) -> Tensor:
        logits, sparsity = net(batch[0])
        return cross_entropy(logits, batch[1]) - 1e-3 * sparsity

    return Trained(net, loss), loader(table(N_TRAIN)), loader(table(N_VAL))


def ft_transformer() -> Made:
    from rtdl_revisiting_models import FTTransformer

    net = FTTransformer(
        n_cont_features=10,
        cat_cardinalities=[],
        d_out=2,
        n_blocks=3,
        d_block=16,
        attention_n_heads=2,
        attention_dropout=0.1,
        ffn_d_hidden=32,
        ffn_d_hidden_multiplier=None,
        ffn_dropout=0.1,
        residual_dropout=0.0,
    )
    return (
        Trained(net, lambda net, batch: cross_entropy(net(batch[0], None), batch[1])),
        loader(table(N_TRAIN)),
        loader(table(N_VAL)),
    )


# --- pixels and boxes ----------------------------------------------------------------------------


def segmented(net: nn.Module, batch: Any) -> Tensor:
    x, _ = batch
    return nn.functional.binary_cross_entropy_with_logits(net(x), (x[:, :1] > 0).float())


def smp_unet() -> Made:
    import segmentation_models_pytorch as smp

    return of_images(
        smp.Unet("resnet18", encoder_weights=None, decoder_channels=(32, 16, 16, 8, 8)), segmented
    )


def smp_fpn() -> Made:
    import segmentation_models_pytorch as smp

    net = smp.FPN(
        "resnet18",
        encoder_weights=None,
        decoder_pyramid_channels=32,
        decoder_segmentation_channels=32,
    )
    return of_images(net, segmented)


class Boxes(Dataset):
    def __init__(self, n: int) -> None:
        self.x = images(n, n, size=64)[0].sigmoid()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        box = torch.tensor([[4.0, 4.0, 20.0 + i % 30, 30.0]])
        return self.x[i], {"boxes": box, "labels": torch.tensor([1])}


def apart(items: list[Any]) -> tuple[Any, ...]:
    return tuple(zip(*items, strict=True))


def detection() -> Made:
    import torchvision

    net = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=2,
        min_size=64,
        max_size=64,
        rpn_pre_nms_top_n_test=20,
        rpn_post_nms_top_n_test=10,
        box_detections_per_img=5,
    )

    class Detector(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return sum(self.net(list(batch[0]), list(batch[1])).values())

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            found = self.net(list(batch[0]))
            self.log("val_boxes", float(sum(len(each["boxes"]) for each in found)), batch_size=16)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 1e-3)

    train, val = (torch.utils.data.DataLoader(Boxes(n), 16, collate_fn=apart) for n in (16, 72))
    return Detector(), train, val


# --- sequences -----------------------------------------------------------------------------------


def x_decoder() -> Made:
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    net = TransformerWrapper(
        num_tokens=40,
        max_seq_len=12,
        attn_layers=Decoder(dim=16, depth=3, heads=2, attn_dim_head=8),
    )
    train, val = (TensorDataset(tokens(n, n)) for n in (N_TRAIN, N_VAL))
    wrapped = AutoregressiveWrapper(net)
    return Trained(wrapped, lambda net, batch: net(batch[0])), loader(train), loader(val)


def gru4rec() -> Made:
    """The recommender reads its sizes from a configuration and a data set."""
    from recbole.model.sequential_recommender.gru4rec import GRU4Rec

    class Config(dict):
        def __getitem__(self, key: str) -> Any:
            return self.get(key)

    config = Config(
        embedding_size=12,
        hidden_size=16,
        loss_type="CE",
        num_layers=2,
        dropout_prob=0.1,
        USER_ID_FIELD="user",
        ITEM_ID_FIELD="item",
        LIST_SUFFIX="_list",
        ITEM_LIST_LENGTH_FIELD="length",
        NEG_PREFIX="neg_",
        MAX_ITEM_LIST_LENGTH=12,
        device="cpu",
    )

    class Items:
        def num(self, field: str) -> int:
            return 40

    net = GRU4Rec(config, Items())

    def loss(net: nn.Module, batch: Any) -> Tensor:
        return net.calculate_loss(batch)

    def watched(n: int) -> Rows:
        lengths = torch.randint(4, 13, (n,), generator=generator(n))
        items = tokens(n, n) * (torch.arange(12) < lengths[:, None])
        return Rows(item_list=items, length=lengths, item=items[:, 0], rating=torch.rand(n))

    return Trained(net, loss), loader(watched(N_TRAIN)), loader(watched(N_VAL))


# --- Lightning's own -----------------------------------------------------------------------------


def lightning_transformer() -> Made:
    from lightning.pytorch.demos import Transformer

    net = Transformer(vocab_size=40, ninp=16, nhead=2, nhid=32, nlayers=2)

    def loss(net: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.nll_loss(net(x, y), y.view(-1))

    train, val = (TensorDataset(tokens(n, n), tokens(n, n + 1)) for n in (N_TRAIN, N_VAL))
    return Trained(net, loss), loader(train), loader(val)


def lightning_lstm() -> Made:
    from lightning.pytorch.demos.lstm import SimpleLSTM

    net = SimpleLSTM(vocab_size=40, ninp=12, nhid=16, nlayers=2)

    def loss(net: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        output, _ = net(x, net.init_hidden(len(x)))
        return nn.functional.nll_loss(output, y.view(-1))

    train, val = (TensorDataset(tokens(n, n), tokens(n, n + 1)) for n in (N_TRAIN, N_VAL))
    return Trained(net, loss), loader(train), loader(val)


def boring() -> Made:
    from pytorch_lightning.demos.boring_classes import BoringModel

    train, val = (loader(torch.randn(n, 32, generator=generator(n))) for n in (N_TRAIN, N_VAL))
    return BoringModel(), train, val


def autoencoder() -> Made:
    class AutoEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 3))
            self.decoder = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 256))

        def forward(self, x: Tensor) -> Tensor:
            return self.decoder(self.encoder(x))

    def loss(net: nn.Module, batch: Any) -> Tensor:
        x = batch[0].flatten(1)
        return mse_loss(net(x), x)

    return of_images(AutoEncoder(), loss, size=16, channels=1)


def gan() -> Made:
    class Gan(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 256))
            self.discriminator = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 1))

        def forward(self, z: Tensor) -> Tensor:
            return self.generator(z)

        def score(self, x: Tensor, real: bool) -> Tensor:
            logits = self.discriminator(x)
            target = torch.full_like(logits, float(real))
            return nn.functional.binary_cross_entropy_with_logits(logits, target)

        def training_step(self, batch: Any, batch_idx: int) -> None:
            x = batch[0].flatten(1)
            first, second = self.optimizers()
            made = self(torch.randn(len(x), 8))
            for optimizer, loss in (
                (first, self.score(made, True)),
                (second, self.score(x, True) + self.score(made.detach(), False)),
            ):
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x = batch[0].flatten(1)
            made = self(torch.randn(len(x), 8))
            self.log("val_fake", self.score(made, True), batch_size=len(x))
            self.log("val_real", self.score(x, True), batch_size=len(x))

        def configure_optimizers(self) -> Any:
            parts = self.generator, self.discriminator
            return [torch.optim.Adam(part.parameters(), 1e-3) for part in parts], []

    train, val = (TensorDataset(*images(n, n, size=16, channels=1)) for n in (N_TRAIN, N_VAL))
    return Gan(), loader(train), loader(val)


# --- two towers, flows, masked images ------------------------------------------------------------


def clip() -> Made:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    net = CLIP(
        embed_dim=16,
        vision_cfg=CLIPVisionCfg(layers=3, width=32, head_width=16, patch_size=8, image_size=32),
        text_cfg=CLIPTextCfg(context_length=12, vocab_size=40, width=32, heads=2, layers=3),
    )

    def loss(net: nn.Module, batch: Any) -> Tensor:
        image, text, scale = net(*batch)[:3]
        logits = scale * image @ text.T
        target = torch.arange(len(logits))
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    train, val = (TensorDataset(images(n, n)[0], tokens(n, n)) for n in (N_TRAIN, N_VAL))
    return Trained(net, loss), loader(train), loader(val)


def zuko_flow() -> Made:
    import zuko

    net = zuko.flows.NSF(6, context=0, transforms=3, hidden_features=(32, 32))
    train, val = (TensorDataset(table(n).tensors[0][:, :6]) for n in (N_TRAIN, N_VAL))
    return (
        Trained(net, lambda net, batch: -net().log_prob(batch[0]).mean()),
        loader(train),
        loader(val),
    )


def mae() -> Made:
    from vit_pytorch import ViT
    from vit_pytorch.mae import MAE

    vit = ViT(
        image_size=32,
        patch_size=8,
        num_classes=2,
        dim=32,
        depth=3,
        heads=2,
        mlp_dim=64,
        pool="mean",
    )
    net = MAE(encoder=vit, masking_ratio=0.5, decoder_dim=16, decoder_depth=2)
    return of_images(net, lambda net, batch: net(batch[0]))


def monai_unet() -> Made:
    from monai.networks.nets import UNet

    net = UNet(2, 3, 1, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)
    return of_images(net, segmented)


def tensordict_mlp() -> Made:
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule, TensorDictSequential

    net = TensorDictSequential(
        TensorDictModule(nn.Sequential(nn.Linear(10, 32), nn.ReLU()), ["x"], ["hidden"]),
        TensorDictModule(nn.Linear(32, 2), ["hidden"], ["logits"]),
    )

    def loss(net: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(net(batch)["logits"], batch["y"])

    def made(n: int) -> Any:
        x, y = table(n).tensors
        return TensorDict({"y": y, "x": x}, batch_size=[n])

    train, val = (loader(made(n), collate_fn=lambda x: x) for n in (N_TRAIN, N_VAL))
    return Trained(net, loss), train, val


# --- packages that bring the LightningModule -----------------------------------------------------


def darts_transformer() -> Made:
    import numpy as np
    from darts import TimeSeries
    from darts.models import TransformerModel

    kwargs = {
        "d_model": 16,
        "nhead": 2,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "dim_feedforward": 32,
    }
    return of_darts(TransformerModel, TimeSeries, np, **kwargs)


def darts_tcn() -> Made:
    import numpy as np
    from darts import TimeSeries
    from darts.models import TCNModel

    return of_darts(TCNModel, TimeSeries, np, num_filters=8, kernel_size=3, num_layers=3)


def of_darts(kind: Any, series: Any, np: Any, **kwargs: Any) -> Made:
    model = kind(
        input_chunk_length=12, output_chunk_length=4, batch_size=BATCH, random_state=0, **kwargs
    )
    rng = np.random.default_rng(0)
    walks = [rng.normal(size=n).cumsum().astype("float32") for n in (111, 215)]
    train, val = (series.from_values(walk) for walk in walks)
    _, params = model._setup_for_fit_from_dataset(train, val_series=val)
    params = model._setup_for_train(**params)
    data = params["datamodule"]
    return params["model"], data, None


def pytorch_tabular() -> Made:
    import numpy as np
    import pandas as pd
    from pytorch_tabular import TabularModel
    from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
    from pytorch_tabular.models import CategoryEmbeddingModelConfig

    def frame(n: int) -> Any:
        x, y = (tensor.numpy() for tensor in table(n).tensors)
        columns = {f"x{i}": x[:, i].astype("float64") for i in range(8)}
        return pd.DataFrame({**columns, "kind": np.where(x[:, 9] > 0, "a", "b"), "y": y})

    model = TabularModel(
        data_config=DataConfig(
            target=["y"], continuous_cols=[f"x{i}" for i in range(8)], categorical_cols=["kind"]
        ),
        model_config=CategoryEmbeddingModelConfig(task="classification", layers="32-16"),
        optimizer_config=OptimizerConfig(),
        trainer_config=TrainerConfig(batch_size=BATCH, accelerator="cpu"),
        verbose=False,
    )
    data = model.prepare_dataloader(frame(N_TRAIN), frame(N_VAL), seed=0)
    return model.prepare_model(data), data.train_dataloader(), data.val_dataloader()


class Photographs(Dataset):
    def __init__(self, n: int) -> None:
        self.x, self.y = images(n, n, size=64)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        from anomalib.data import ImageItem

        return ImageItem(image=self.x[i], gt_label=self.y[i].bool())


def of_anomalib(module: Any) -> Made:
    from anomalib.data import ImageBatch

    train, val = (loader(Photographs(n), collate_fn=ImageBatch.collate) for n in (48, 96))
    return module, train, val


def fastflow() -> Made:
    from anomalib.models import Fastflow

    resize = Fastflow.configure_pre_processor(image_size=(64, 64))
    return of_anomalib(
        Fastflow(
            pre_trained=False,
            flow_steps=2,
            pre_processor=resize,
            post_processor=False,
            evaluator=False,
            visualizer=False,
        )
    )


# --- experts, state spaces, sound, volumes, features in dictionaries -----------------------------


def of_tokens(net: nn.Module) -> Made:
    train, val = (Rows(input_ids=tokens(n, n), labels=tokens(n, n)) for n in (N_TRAIN, N_VAL))
    return Trained(net, own_loss), loader(train), loader(val)


def mixtral() -> Made:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=12,
        bos_token_id=0,
        eos_token_id=1,
    )
    return of_tokens(MixtralForCausalLM(config))


def mamba() -> Made:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=40,
        hidden_size=16,
        state_size=4,
        num_hidden_layers=3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return of_tokens(MambaForCausalLM(config))


def sounds(n: int) -> Rows:
    waves, classes = images(n, n, size=40, channels=1)
    return Rows(input_values=waves.flatten(1), labels=classes)


def wav2vec() -> Made:
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8, 8, 8),
        conv_stride=(5, 4, 4),
        conv_kernel=(10, 8, 8),
        num_labels=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        mask_time_prob=0.0,
        layerdrop=0.0,
    )
    net = Wav2Vec2ForSequenceClassification(config)
    return Trained(net, own_loss), loader(sounds(N_TRAIN)), loader(sounds(N_VAL))


def vae() -> Made:
    from diffusers import AutoencoderKL

    net = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    return of_images(
        net, lambda net, batch: mse_loss(net(batch[0]).sample, batch[0]), size=16, channels=1
    )


def volumes() -> Made:
    from monai.networks.nets import DenseNet

    net = DenseNet(3, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2, 2))

    def loss(net: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return cross_entropy(net(x.unflatten(1, (1, 16))), y)

    return of_images(net, loss, size=16, channels=16)


def sentences() -> Made:
    """Each module adds to the dictionary that it is given."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling, WordEmbeddings
    from sentence_transformers.models.tokenizer import WhitespaceTokenizer

    words = WhitespaceTokenizer([str(i) for i in range(40)], stop_words=[])
    weights = torch.randn(40, 12, generator=generator(0)).numpy()
    embeddings = WordEmbeddings(words, weights, update_embeddings=True)
    net = SentenceTransformer(modules=[embeddings, Pooling(12), Dense(12, 8)], device="cpu")

    def loss(net: nn.Module, batch: Any) -> Tensor:
        (ids,) = batch
        first, second = (
            net({"input_ids": each, "attention_mask": torch.ones_like(each)})["sentence_embedding"]
            for each in ids.unbind(1)
        )
        return cross_entropy(first @ second.T, torch.arange(len(ids)))

    train, val = (
        TensorDataset(torch.stack([tokens(n, n), tokens(n, n + 1)], 1)) for n in (N_TRAIN, N_VAL)
    )
    return Trained(net, loss), loader(train), loader(val)


CASES: dict[str, Case] = {
    "timm ResNet-18": Case(
        "timm",
        timm_resnet,
        layers="input net.maxpool net.layer1.0 net.layer1 net.layer2 net.layer3 net.layer4 net.fc",
        input_of="net.conv1",
        head="net.fc",
    ),
    "timm ViT": Case(
        "timm",
        timm_vit,
        layers="input net.blocks.0 net.blocks.1 net.blocks.2 net.blocks.3 last_hidden net.head",
        input_of="net.patch_embed.proj",
        head="net.head",
    ),
    "timm Swin": Case(
        "timm",
        timm_swin,
        layers="input net.layers.0 net.layers.1 net.layers.2 last_hidden net.head.fc",
        input_of="net.patch_embed.proj",
        head="net.head.fc",
    ),
    "timm ConvNeXt": Case(
        "timm",
        timm_convnext,
        layers=(
            "input net.stem net.stages.0 net.stages.1 net.stages.2.blocks.0 net.stages.2"
            " net.stages.3 last_hidden net.head.fc"
        ),
        input_of="net.stem.0",
        head="net.head.fc",
    ),
    "transformers GPT-2": Case(
        "transformers",
        gpt2,
        layers=(
            "net.transformer.wte net.transformer.h.0 net.transformer.h.1 net.transformer.h.2"
            " last_hidden net.lm_head"
        ),
        head="net.lm_head",
    ),
    "transformers BERT": Case(
        "transformers",
        bert,
        layers=(
            "net.bert.embeddings net.bert.encoder.layer.0 net.bert.encoder.layer.1"
            " net.bert.encoder.layer.2 net.bert.pooler.dense last_hidden net.classifier"
        ),
        head="net.classifier",
        warns=("padding",),
    ),
    "transformers T5": Case(
        "transformers",
        t5,
        layers=(
            "net.encoder.embed_tokens net.encoder.block.0 net.encoder.block.1 net.decoder.block.0"
            " net.decoder.block.1 last_hidden net.lm_head"
        ),
        head="net.lm_head",
    ),
    "transformers ViT": Case(
        "transformers",
        hf_vit,
        layers=(
            "input net.vit.embeddings net.vit.layers.0 net.vit.layers.1 net.vit.layers.2"
            " last_hidden net.classifier"
        ),
        input_of="net.vit.embeddings.patch_embeddings.projection",
        head="net.classifier",
    ),
    "diffusers UNet2D": Case(
        "diffusers",
        unet2d,
        layers=(
            "input net.time_embedding.linear_1 net.time_embedding.linear_2 net.conv_in"
            " net.down_blocks.0 net.down_blocks.1 net.mid_block net.up_blocks.0 net.up_blocks.1"
            " net.conv_out"
        ),
        input_of="net.conv_in",
        warns=("end",),
    ),
    "denoising-diffusion-pytorch": Case(
        "denoising_diffusion_pytorch",
        lucid_diffusion,
        layers=(
            "input net.model.init_conv net.model.time_mlp.3 net.model.downs.0.0"
            " net.model.downs.0.1 net.model.downs.0.3 net.model.downs.1.1 net.model.downs.1.2"
            " net.model.mid_attn net.model.ups.0.0 net.model.ups.0.2 net.model.ups.1.0"
            " net.model.ups.1.1 net.model.ups.1.2 net.model.final_res_block net.model.final_conv"
        ),
        input_of="net",
        warns=("end",),
    ),
    "torch-geometric GIN": Case(
        "torch_geometric",
        gin,
        layers=(
            "input net.conv.convs.0 net.conv.convs.1 net.conv.convs.2 net.head.lins.0 last_hidden"
            " net.head.lins.1 net"
        ),
        head="net.head.lins.1",
        reasons={
            "input": "rows",
            "net.conv.convs.0": "rows",
            "net.conv.convs.1": "rows",
            "net.conv.convs.2": "rows",
        },
        warns=("rows",),
    ),
    "torch-geometric GCN": Case(
        "torch_geometric",
        gcn,
        layers="input net.first net.second last_hidden net.head",
        head="net.head",
        reasons={
            "input": "rows",
            "net.first": "rows",
            "net.second": "rows",
        },
        warns=("rows",),
    ),
    "lightly SimCLR": Case(
        "lightly",
        simclr,
        layers=(
            "input backbone.3 backbone.4.0 backbone.4 backbone.5 backbone.6 backbone.7 backbone.8"
            " projection_head.layers.0 last_hidden projection_head.layers.3"
            " projection_head.layers.4"
        ),
        input_of="backbone.0",
        head="projection_head.layers.3",
        warns=("calls",),
    ),
    "lightly SimCLR, views in one batch": Case(
        "lightly",
        simclr_concatenated,
        layers=(
            "input backbone.3 backbone.4.0 backbone.4 backbone.5 backbone.6 backbone.7 backbone.8"
            " projection_head.layers.0 last_hidden projection_head.layers.3"
            " projection_head.layers.4"
        ),
        input_of="backbone.0",
        head="projection_head.layers.3",
        options={"rows_per_sample": "first"},
        views=2,
    ),
    "lightly BYOL": Case(
        "lightly",
        byol,
        layers=(
            "input backbone.3 backbone.4 backbone.5 backbone.7 backbone.8"
            " projection_head.layers.0 projection_head.layers.3 prediction_head.layers.0"
            " last_hidden backbone_momentum.3 backbone_momentum.4 backbone_momentum.5"
            " backbone_momentum.6 backbone_momentum.8 projection_head_momentum.layers.0"
            " projection_head_momentum.layers.3"
        ),
        input_of="backbone.0",
        head="prediction_head.layers.3",
        warns=("calls",),
    ),
    "lightly MoCo": Case(
        "lightly",
        moco,
        layers=(
            "input backbone.3 backbone.4 backbone.5 backbone.6 backbone.7 backbone.8"
            " projection_head.layers.0 last_hidden backbone_momentum.3 backbone_momentum.4"
            " backbone_momentum.5 backbone_momentum.6 backbone_momentum.7 backbone_momentum.8"
            " projection_head_momentum.layers.0 projection_head_momentum.layers.2"
        ),
        input_of="backbone.0",
        head="projection_head.layers.2",
    ),
    "lightly DINO": Case(
        "lightly",
        dino,
        layers=(
            "input teacher_backbone.3 teacher_backbone.4 teacher_backbone.5 teacher_backbone.6"
            " teacher_backbone.7 teacher_backbone.8 teacher_head student_backbone.3"
            " student_backbone.4.0 student_backbone.4 student_backbone.5 student_backbone.6"
            " student_backbone.7 student_backbone.8 last_hidden student_head"
        ),
        input_of="teacher_backbone.0",
        head="student_head.last_layer",
        warns=("calls",),
    ),
    "pytorch-forecasting TFT": Case(
        "pytorch_forecasting",
        tft,
        layers=(
            "input_embeddings prescalers.other"
            " encoder_variable_selection.single_variable_grns.other"
            " encoder_variable_selection.flattened_grn"
            " decoder_variable_selection.single_variable_grns.other"
            " decoder_variable_selection.flattened_grn static_context_initial_hidden_lstm"
            " lstm_decoder static_context_enrichment static_enrichment multihead_attn.q_layers.0"
            " multihead_attn.k_layers.0 multihead_attn.w_h pos_wise_ff last_hidden output_layer"
        ),
        head="output_layer",
        warns=(
            "calls",
            "ties",
        ),
    ),
    "pytorch-forecasting N-BEATS": Case(
        "pytorch_forecasting",
        nbeats,
        layers=(
            "input net_blocks.0 net_blocks.1 net_blocks.2 net_blocks.3 net_blocks.4 last_hidden"
            " net_blocks.5"
        ),
        input_of="net_blocks.0.fc.0",
        head="net_blocks.5.theta_f_fc",
        warns=("calls",),
    ),
    "pytorch-tabnet": Case(
        "pytorch_tabnet",
        tabnet,
        layers=(
            "input net.tabnet.encoder.initial_splitter.shared.shared_layers.0"
            " net.tabnet.encoder.initial_splitter.shared.glu_layers.0"
            " net.tabnet.encoder.initial_splitter.shared.shared_layers.1"
            " net.tabnet.encoder.initial_splitter.shared.glu_layers.1"
            " net.tabnet.encoder.initial_splitter.specifics.glu_layers.0"
            " net.tabnet.encoder.initial_splitter.specifics.glu_layers.1"
            " net.tabnet.encoder.att_transformers.0 net.tabnet.encoder.feat_transformers.0"
            " net.tabnet.encoder.att_transformers.1 net.tabnet.encoder.feat_transformers.1"
            " net.tabnet.encoder.att_transformers.2 net.tabnet.encoder.feat_transformers.2"
            " last_hidden net.tabnet.final_mapping"
        ),
        head="net.tabnet.final_mapping",
        input_of="net",
        warns=("calls",),
    ),
    "rtdl FT-Transformer": Case(
        "rtdl_revisiting_models",
        ft_transformer,
        layers=(
            "input net.backbone.blocks.0.attention net.backbone.blocks.0.ffn"
            " net.backbone.blocks.1.attention net.backbone.blocks.1.ffn"
            " net.backbone.blocks.2.attention net.backbone.blocks.2.ffn last_hidden"
            " net.backbone.output.linear"
        ),
        input_of="net.cont_embeddings",
        head="net.backbone.output.linear",
    ),
    "segmentation-models-pytorch U-Net": Case(
        "segmentation_models_pytorch",
        smp_unet,
        layers=(
            "input net.encoder.maxpool net.encoder.layer1.0 net.encoder.layer1 net.encoder.layer2"
            " net.encoder.layer3 net.encoder.layer4 net.decoder.blocks.0 net.decoder.blocks.1"
            " net.decoder.blocks.2 net.decoder.blocks.3 net.decoder.blocks.4 net.segmentation_head"
        ),
        input_of="net.encoder.conv1",
        warns=("end",),
    ),
    "segmentation-models-pytorch FPN": Case(
        "segmentation_models_pytorch",
        smp_fpn,
        layers=(
            "input net.encoder.maxpool net.encoder.layer1.0 net.encoder.layer1 net.encoder.layer2"
            " net.encoder.layer3 net.encoder.layer4 net.decoder.p5 net.decoder.p4 net.decoder.p3"
            " net.decoder.p2 net.decoder.seg_blocks.0 net.decoder.seg_blocks.1"
            " net.decoder.seg_blocks.2 net.decoder.seg_blocks.3 net.segmentation_head"
        ),
        input_of="net.encoder.conv1",
        warns=("end",),
    ),
    "torchvision Faster R-CNN": Case(
        "torchvision",
        detection,
        layers=(
            "input net.backbone.body.0 net.backbone.body.2 net.backbone.body.4"
            " net.backbone.body.6 net.backbone.body.7 net.backbone.body.9 net.backbone.body.11"
            " net.backbone.body.13 net.backbone.body.15 net.backbone.fpn.layer_blocks.1"
            " net.backbone.fpn.inner_blocks.0 net.backbone.fpn.layer_blocks.0"
            " net.rpn.head.bbox_pred net.roi_heads.box_head.fc7 last_hidden"
            " net.roi_heads.box_predictor.bbox_pred"
        ),
        input_of="net.backbone.body.0.0",
        reasons={
            "net.roi_heads.box_head.fc7": "rows",
            "last_hidden": "rows",
            "net.roi_heads.box_predictor.bbox_pred": "rows",
        },
        warns=(
            "calls",
            "rows",
        ),
        machine={"net.rpn.head.bbox_pred": "ties"},
    ),
    "x-transformers decoder": Case(
        "x_transformers",
        x_decoder,
        layers=(
            "net.net.token_emb net.net.attn_layers.layers.0.1 net.net.attn_layers.layers.1.1"
            " net.net.attn_layers.layers.2.1 net.net.attn_layers.layers.3.1"
            " net.net.attn_layers.layers.4.1 net.net.attn_layers.layers.5.1 last_hidden"
            " net.net.to_logits"
        ),
        head="net.net.to_logits",
    ),
    "recbole GRU4Rec": Case(
        "recbole",
        gru4rec,
        layers="net.item_embedding net.gru_layers net.dense",
        head="net.dense",
    ),
    "Lightning Transformer": Case(
        "lightning",
        lightning_transformer,
        layers=(
            "net.embedding net.transformer.encoder.layers.0 net.transformer.encoder.layers.1"
            " net.transformer.decoder.layers.0 net.transformer.decoder.layers.1 last_hidden"
            " net.decoder"
        ),
        head="net.decoder",
        warns=("calls",),
    ),
    "Lightning LSTM": Case(
        "lightning",
        lightning_lstm,
        layers="net.encoder net.rnn net.decoder",
        head="net.decoder",
    ),
    "Lightning BoringModel": Case(
        "pytorch_lightning",
        boring,
        layers="input layer",
        input_of="layer",
        head="layer",
    ),
    "Lightning autoencoder": Case(
        "pytorch_lightning",
        autoencoder,
        layers="input net.encoder.0 net.encoder.2 net.decoder.0 last_hidden net.decoder.2",
        input_of="net.encoder.0",
        head="net.decoder.2",
    ),
    "Lightning GAN": Case(
        "pytorch_lightning",
        gan,
        layers="input generator.0 generator.2 discriminator.0 last_hidden discriminator.2",
        input_of="generator.0",
        head="discriminator.2",
        warns=("calls",),
    ),
    "open_clip CLIP": Case(
        "open_clip",
        clip,
        layers=(
            "input net.visual.transformer.resblocks.0 net.visual.transformer.resblocks.1"
            " net.visual.transformer.resblocks.2 net.transformer.resblocks.0"
            " net.transformer.resblocks.1 net.transformer.resblocks.2 net.ln_final"
        ),
        input_of="net.visual.conv1",
        warns=("end",),
    ),
    "zuko NSF": Case(
        "zuko",
        zuko_flow,
        layers=(
            "input net.transform.transforms.0 net.transform.transforms.1"
            " net.transform.transforms.2 last_hidden"
        ),
        input_of="net.transform.transforms.0.hyper",
        head="net.transform.transforms.2.hyper.4",
        reasons={
            "net.transform.transforms.0": "output",
            "net.transform.transforms.1": "output",
            "net.transform.transforms.2": "output",
        },
        warns=("output",),
    ),
    "vit-pytorch MAE": Case(
        "vit_pytorch",
        mae,
        layers=(
            "input net.encoder.to_patch_embedding.2 net.encoder.transformer.layers.0.0"
            " net.encoder.transformer.layers.0.1 net.encoder.transformer.layers.1.0"
            " net.encoder.transformer.layers.1.1 net.encoder.transformer.layers.2.0"
            " net.encoder.transformer.layers.2.1 net.enc_to_dec net.decoder.layers.0.0"
            " net.decoder.layers.0.1 net.decoder.layers.1.0 net.decoder.layers.1.1 last_hidden"
            " net.to_pixels net.encoder.mlp_head"
        ),
        input_of="net.to_patch",
        head="net.to_pixels",
        reasons={
            "net.encoder.mlp_head": "absent",
        },
        warns=("absent",),
    ),
    "MONAI UNet": Case(
        "monai",
        monai_unet,
        layers=(
            "input net.model.0 net.model.1.submodule.0 net.model.1.submodule.1"
            " net.model.1.submodule.2.0 net.model.1.submodule.2.1 net.model.2.0 net.model.2.1"
        ),
        input_of="net.model.0.conv.unit0.conv",
        warns=("end",),
    ),
    "tensordict": Case(
        "tensordict",
        tensordict_mlp,
        layers="input net.module.0.module.0 last_hidden net.module.1.module",
        input_of="net.module.0.module.0",
        head="net.module.1.module",
    ),
    "darts Transformer": Case(
        "darts",
        darts_transformer,
        layers=(
            "input encoder transformer.encoder.layers.0 transformer.encoder.layers.1"
            " transformer.decoder.layers.0 transformer.decoder.layers.1 last_hidden decoder"
        ),
        axes={"transformer.*": 1},
        reasons={
            "input": "axis",
            "encoder": "axis",
            "last_hidden": "axis",
            "decoder": "axis",
        },
        warns=(
            "axis",
            "calls",
        ),
    ),
    "darts TCN": Case(
        "darts",
        darts_tcn,
        layers="input res_blocks.0 res_blocks.1 res_blocks.2",
        input_of="res_blocks.0",
        warns=("end",),
    ),
    "pytorch-tabular": Case(
        "pytorch_tabular",
        pytorch_tabular,
        layers=(
            "input _backbone.linear_layers.0 _backbone.linear_layers.2 last_hidden head.layers.0"
        ),
        head="head.layers.0",
        input_of="_embedding_layer.normalizing_batch_norm",
    ),
    "anomalib Fastflow": Case(
        "anomalib",
        fastflow,
        layers=(
            "input model.feature_extractor.maxpool model.feature_extractor.layer1.0"
            " model.feature_extractor.layer1 model.feature_extractor.layer2"
            " model.feature_extractor.layer3 model.fast_flow_blocks.0 model.fast_flow_blocks.1"
            " model.fast_flow_blocks.2"
        ),
        input_of="pre_processor.transform",
        warns=("end",),
    ),
    "transformers Mixtral": Case(
        "transformers",
        mixtral,
        layers=(
            "net.model.embed_tokens net.model.layers.0 net.model.layers.1 net.model.layers.2"
            " last_hidden net.lm_head"
        ),
        head="net.lm_head",
    ),
    "transformers Mamba": Case(
        "transformers",
        mamba,
        layers=(
            "net.backbone.embeddings net.backbone.layers.0 net.backbone.layers.1"
            " net.backbone.layers.2 last_hidden net.lm_head"
        ),
        head="net.lm_head",
    ),
    "transformers Wav2Vec2": Case(
        "transformers",
        wav2vec,
        layers=(
            "input net.wav2vec2.feature_extractor.conv_layers.0"
            " net.wav2vec2.feature_extractor.conv_layers.1"
            " net.wav2vec2.feature_extractor.conv_layers.2"
            " net.wav2vec2.feature_projection.projection net.wav2vec2.encoder.layers.0"
            " net.wav2vec2.encoder.layers.1 net.wav2vec2.encoder.layers.2 net.projector"
            " last_hidden net.classifier"
        ),
        input_of="net.wav2vec2.feature_extractor.conv_layers.0.conv",
        head="net.classifier",
    ),
    "diffusers AutoencoderKL": Case(
        "diffusers",
        vae,
        layers=(
            "input net.encoder.conv_in net.encoder.down_blocks.0 net.encoder.down_blocks.1"
            " net.encoder.mid_block net.encoder.conv_out net.quant_conv net.post_quant_conv"
            " net.decoder.conv_in net.decoder.mid_block net.decoder.up_blocks.0"
            " net.decoder.up_blocks.1 net.decoder.conv_out"
        ),
        input_of="net.encoder.conv_in",
        warns=("end",),
    ),
    "MONAI DenseNet, volumes": Case(
        "monai",
        volumes,
        layers=(
            "input net.features.pool0 net.features.denseblock1 net.features.transition1"
            " net.features.denseblock2 net.features.transition2 net.features.denseblock3"
            " net.class_layers.pool net.class_layers.out"
        ),
        input_of="net",
        head="net.class_layers.out",
    ),
    "sentence-transformers": Case(
        "sentence_transformers",
        sentences,
        layers="net.0 last_hidden net.2.linear",
        head="net.2.linear",
        warns=("calls",),
    ),
}
