"""Arguments of a wrong type are refused where they are given, in the words of who gave them.

In a process of its own: in the others the tests check the types in the signatures, and the user
would not see what is said there.
"""

import pytest
from pytorch_lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_id
from lightning_id import metrics
from lightning_id.functional import register_estimator, twonn_dimension
from lightning_id.recording.layers import select_layers
from tests.processes import in_process

WRONG = {
    "C(n_samples='2000')": "`n_samples`: expected a whole number, got '2000'",
    "C(n_samples=None)": "`n_samples`: expected a whole number, got None",
    "C(n_samples=100.5)": "`n_samples`: expected a whole number, got 100.5",
    "C(n_samples=True)": "`n_samples`: expected a whole number, got True",
    "C(n_samples=2)": "`n_samples`: expected at least 3, got 2",
    "C(seed=1.5)": "`seed`: expected a whole number, got 1.5",
    "C(dataloader_idx='0')": "`dataloader_idx`: expected a whole number, got '0'",
    "C(dataloader_idx=-1)": "`dataloader_idx`: expected at least 0, got -1",
    "C(schedule=2)": "`schedule`: expected a Schedule or None, got 2",
    "C(schedule=LogSpaced)": "`schedule`: expected an instance, got the class LogSpaced; write",
    "C(prefix=None)": "`prefix`: expected a string, got None",
    "C(estimators='twonn')": "`estimators`: expected a list of names, got 'twonn'",
    "C(estimators=twonn_dimension)": "`estimators`: expected a list of names, got <function twonn",
    "C(estimators=[twonn_dimension])": "`estimators`: expected names, got <function",
    "C(estimators=[TwoNNDimension])": "`estimators`: expected names, got <class",
    "C(layers=nn.Linear)": "`layers`: expected names, got <class 'torch.nn",
    "C(layers=[net[0]])": "`layers`: expected names, got [Linear(",
    "C(last_hidden=nn.Linear)": "`last_hidden`: expected a name or None, got <class 'torch.nn",
    "C(data=DataLoader)": "`data`: expected a list of 'val' and 'train', or names and loaders, got",
    "C(data={'a': DataLoader})": "`data`: expected an instance, got the class DataLoader; write",
    "Trainer(callbacks=[C])": "`callbacks`: expected an instance, got the class IntrinsicDimension",
    "C(sample_dim='1')": "`sample_dim`: expected a whole number, got '1'",
    "C(sample_dim={'lstm': -1})": "`sample_dim`: expected at least 0, got -1",
    "C(memory_limit='4')": "`memory_limit`: expected GiB above 0, got '4'",
    "C(memory_limit=0)": "`memory_limit`: expected GiB above 0, got 0",
    "C(max_overhead='0.02')": "`max_overhead`: expected a share in (0, 1), got '0.02'",
    "C(max_features='4096')": "`max_features`: expected a whole number, got '4096'",
    "C(per_class='yes')": "`per_class`: expected a whole number, got 'yes'",
    "C(per_class=2)": "`per_class`: expected at least 3, got 2",
    "C(probe=TensorDataset())": "`data`: expected a DataLoader, 'train' or 'val', got",
    "EveryNValidations('2')": "`n`: expected a whole number, got '2'",
    "AtSteps('10')": "`steps`: expected a whole number, got '1'",
    "AtSteps([1], then_every=0.5)": "`then_every`: expected a whole number, got 0.5",
    "LogSpaced(0)": "`per_decade`: expected at least 1, got 0",
    "select_layers(net, 1)": "`layers`: expected names, got 1",
    "select_layers(net, [1])": "`layers`: expected names, got [1]",
    "select_layers(net, [])": "Expected at least one layer, got none from []",
    "select_layers(net, 're:0(')": "`layers`: expected a regular expression after 're:', got",
    "recorded(['last_hidden'])": "`layers`: expected modules or 'input', got 'last_hidden'",
    "recorded(['0'], n_samples='3')": "`n_samples`: expected a whole number, got '3'",
    "recorded(['0'], n_samples=0)": "`n_samples`: expected at least 1, got 0",
    "register_estimator('twonn_se', print)": "`name`: expected another ending than _se,",
    "register_estimator('mine', 5)": "`function`: expected a function of a Geometry, got 5",
}
NAMES = {
    name: getattr(module, name) for module in (lightning_id, metrics) for name in module.__all__
} | {
    "C": lightning_id.IntrinsicDimensionCallback,
    "DataLoader": DataLoader,
    "TensorDataset": TensorDataset,
    "Trainer": Trainer,
    "net": nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)),
    "nn": nn,
    "register_estimator": register_estimator,
    "select_layers": select_layers,
    "twonn_dimension": twonn_dimension,
}


def recorded(*args, **kwargs):
    with lightning_id.record_activations(NAMES["net"], *args, **kwargs):
        pass


def messages(calls):
    """Return the message of each call that raises a ValueError."""
    found = {}
    for call in calls:
        try:
            eval(call, NAMES | {"recorded": recorded})
        except (ValueError, AttributeError) as error:
            found[call] = str(error)
    return found


@pytest.fixture(scope="module")
def said():
    return in_process(messages, list(WRONG))


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_argument_is_refused_in_its_own_words(call, said):
    assert said.get(call, "nothing").startswith(WRONG[call])
