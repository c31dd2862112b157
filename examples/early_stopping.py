"""Stop when the last hidden layer no longer folds up.

    python examples/early_stopping.py

The keys of the callback are logged next to the accuracy: whatever monitors a metric takes them.
"""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from lightning_id import IntrinsicDimensionCallback
from lightning_id.experiments.classifier import Classifier
from lightning_id.experiments.mnist import MNISTDataModule
from lightning_id.experiments.networks import MNISTNet

callback = IntrinsicDimensionCallback(
    ["input", "network.conv2", "network.d1"], estimators=["twonn"], n_samples=500
)
# A change below the error bar, about 6 % of the value with 500 samples, is no change.
stopping = EarlyStopping("id/last_hidden", mode="min", patience=2, min_delta=0.4)
trainer = pl.Trainer(
    max_epochs=20,
    callbacks=[callback, stopping],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(
    Classifier(MNISTNet(), "sgd", lr=0.01, momentum=0.9),
    MNISTDataModule(n_train=1000, n_val=500),
)
print(f"stopped after {trainer.current_epoch} epochs")
for record in callback.history.records:
    if record["role"] == "last_hidden":
        print(f"epoch {record['epoch']}  {record['value']:.2f} ± {record['std_error']:.2f}")
