"""Two processes: every one logs the numbers of one process on the same samples.

    python examples/ddp.py

Columns of the rows are dealt out to the processes; none holds all of them.
"""

import pytorch_lightning as pl

from lightning_id import IntrinsicDimensionCallback
from lightning_id.experiments.classifier import Classifier
from lightning_id.experiments.mnist import MNISTDataModule
from lightning_id.experiments.networks import MNISTNet

if __name__ == "__main__":
    callback = IntrinsicDimensionCallback(["input", "network.pool2", "network.d1"], n_samples=300)
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[callback],
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = MNISTDataModule(n_train=600, n_val=300)
    trainer.fit(Classifier(MNISTNet(), "sgd", lr=0.01, momentum=0.9), data)
    found = {k: f"{v:.4f}" for k, v in callback.last_metrics.items() if k.startswith("id_twonn/")}
    print(f"process {trainer.global_rank}: {found}", flush=True)
