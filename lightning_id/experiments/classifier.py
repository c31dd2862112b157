"""The LightningModule that trains any image classifier, with arguments that YAML can write."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy


class Classifier(pl.LightningModule):
    """Train a network from inputs `(b, ...)` to logits `(b, num_classes)` on the cross entropy.

    A batch is a pair (list or tuple) of inputs and int64 labels `(b,)`. Logged are `train_loss` at
    steps and `train_acc` over the epoch (of the weights as they change during it), `val_loss` and
    `val_acc`, `test_loss` and `test_acc`: losses in nats, accuracies as fractions in [0, 1].

    Args:
        network: Maps a batch of inputs to logits. Its layers are named `network.<name>`.
        optimizer: Which optimiser of `torch.optim`.
        lr: Learning rate, positive.
        final_lr: Learning rate at the end of the training, reached by the same factor at each step;
            `None` keeps `lr` throughout. Needs a training of known length (`max_epochs`).
        hold: Share of the training, in [0, 1), at `lr` before it begins to fall.
        momentum: Of SGD; Adam and AdamW keep their own defaults.
        weight_decay: L2 penalty of SGD and Adam, decoupled decay of AdamW.
        num_classes: Width of the logits.

    Raises:
        ValueError: If `hold` is no such share.

    Note:
        A checkpoint holds the weights and the numbers above, not the network object:
        `Classifier.load_from_checkpoint(path, network=MNISTNet())`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Literal["sgd", "adam", "adamw"] = "sgd",
        lr: float = 0.01,
        final_lr: float | None = None,
        hold: int | float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if not 0 <= hold < 1:
            raise ValueError(f"`hold`: expected a share in [0, 1), got {hold}. 0 falls throughout.")
        # The network object would make the checkpoint unreadable for torch.load(weights_only=True).
        self.save_hyperparameters(ignore=["network"])
        self.network = network
        self.optimizer_name = optimizer
        self.lr = lr
        self.final_lr = final_lr
        self.hold = hold
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.train_acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.val_acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.test_acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(b, num_classes)` of a batch of inputs."""
        logits: Tensor = self.network(x)
        return logits

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the mean cross entropy of a batch and log `train_loss` and `train_acc`."""
        logits, loss, labels = self._logits_and_loss(batch)
        self.train_acc.update(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:  # noqa: ARG002
        """Log `val_loss` and `val_acc`."""
        self._evaluate(batch, "val", self.val_acc)

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:  # noqa: ARG002
        """Log `test_loss` and `test_acc`."""
        self._evaluate(batch, "test", self.test_acc)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser, with a schedule over its steps when `final_lr` is given."""
        kinds: Any = {"sgd": partial(SGD, momentum=self.momentum), "adam": Adam, "adamw": AdamW}
        optimizer: Optimizer = kinds[self.optimizer_name](
            self.network.parameters(), self.lr, weight_decay=self.weight_decay
        )
        if self.final_lr is None:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        ratio = self.final_lr / self.lr

        def factor(step: int) -> float:
            fallen = max(0.0, (step / steps - self.hold) / (1 - self.hold))
            return float(ratio**fallen)

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    def _evaluate(self, batch: Sequence[Tensor], stage: str, accuracy: MulticlassAccuracy) -> None:
        logits, loss, labels = self._logits_and_loss(batch)
        accuracy.update(logits, labels)
        # sync_dist: the mean over all processes; on one process it does nothing.
        self.log(f"{stage}_loss", loss, batch_size=len(labels), sync_dist=True)
        self.log(f"{stage}_acc", accuracy, batch_size=len(labels), prog_bar=True)

    def _logits_and_loss(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        inputs, labels = batch
        logits = self(inputs)
        return logits, cross_entropy(logits, labels), labels
