"""The claims of Ansuini et al. (2019), one by one: a further claim is an entry of `CLAIMS`."""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from lightning_id.history import History, Placed, queries
from lightning_id.history.queries import last_of_fit, profile, profiles
from reproduction.claims import (
    Claim,
    Numbers,
    at_end,
    at_start,
    at_step,
    by_layer,
)
from reproduction.published import published

# --- compared numbers ----------------------------------------------------------------------------

RISE = "largest step up"


def with_largest_step(ids: Numbers) -> Numbers:
    """Return a profile with the largest ratio of a layer to the one before it."""
    return {**ids, RISE: max(b / a for a, b in pairwise(ids.values()))}


def with_ratios(ids: Numbers, *pairs: tuple[str, str]) -> Numbers:
    """Return numbers with ratios of pairs of them, named "a / b"."""
    return {**ids, **{f"{a} / {b}": ids[a] / ids[b] for a, b in pairs}}


def with_hunchback_ratios(ids: Numbers) -> Numbers:
    """Return a profile with the ratios that make a hunchback."""
    pairs = ("conv2", "input"), ("pool2", "input"), ("d1", "pool2"), ("output", "d1")
    return with_ratios(ids, *pairs)


def with_last_hidden_ratios(ids: Numbers) -> Numbers:
    """Return the last hidden layer of a profile with the input and the second convolution."""
    shown = {name: ids[name] for name in ("input", "conv2", "d1")}
    return with_ratios(shown, ("d1", "input"), ("d1", "conv2"))


def peak_over_input(ids: Sequence[float]) -> float:
    """Return the highest layer of a profile over the first; NaN of an empty profile."""
    return max(ids) / ids[0] if ids else math.nan


def peak_ratios(untrained: Sequence[float], trained: Sequence[float]) -> Numbers:
    """Return the height of the peak of an untrained and of the trained network."""
    return {
        "untrained, highest / input": peak_over_input(untrained),
        "trained, highest / input": peak_over_input(trained),
    }


def measured_peak_ratios(history: History) -> Numbers:
    """Return the height of the peak before training and at the end, without the output."""
    return peak_ratios(without_output(at_start(history)), without_output(at_end(history)))


def highest_over_lowest(ids: Sequence[float]) -> float:
    """Return the highest layer of a profile over the lowest; NaN of an empty profile."""
    return max(ids) / min(ids) if ids else math.nan


def without_output(ids: Numbers) -> list[float]:
    """Return a profile without the output, whose few units alone limit its dimension."""
    return list(ids.values())[:-1]


def contraction(history: History) -> Numbers:
    """Return the last hidden layer before training and after 100 steps."""
    ids = {"start": at_start(history)["d1"], "step 100": at_step(history, 100)["d1"]}
    return with_ratios(ids, ("step 100", "start"))


def expansion(history: History, layer: str) -> float:
    """Return the last measurement of a layer over its smallest."""
    course = [by_layer(layers)[layer] for layers in profiles(history, "twonn").values()]
    return course[-1] / min(course)


def last_hidden(history: History) -> Placed:
    """Return the record of the trained last hidden layer, or raise LookupError without one."""
    found = queries.last_hidden(profile(history, estimator="twonn"))
    if found is None:
        raise LookupError("the last hidden layer was not measured")
    return found


def hunchback(history: History) -> Numbers:
    """Return the numbers of a hunchback of a network of any layers."""
    ids = list(at_end(history).values())
    last = last_hidden(history)["value"]
    return {"input": ids[0], "highest": max(ids), "last hidden": last, "output": ids[-1]}


def largest_share_of_units(history: History) -> float:
    """Return the largest ratio of the dimension of a layer to its number of units."""
    layers = profile(history, estimator="twonn")
    return max(r["value"] / (r["ambient_dimension"] or math.nan) for r in layers)


def at_last_hidden(history: History, estimator: str) -> float:
    """Return a dimension of the trained last hidden layer."""
    return at_end(history, estimator)[last_hidden(history)["layer"]]


def largest_eigenvalue_ratio(history: History) -> float:
    """Return the largest ratio of an eigenvalue of the last hidden layer to the next.

    Among as many as hold 90 % of the variance: the rest is mostly noise of the few images.
    """
    last = last_of_fit(history.validations())
    if last not in history.spectra:
        raise LookupError("no spectrum of the trained network was kept")
    spectrum = history.spectra[last][last_hidden(history)["layer"]]
    count = math.ceil(at_last_hidden(history, "pca"))
    return float((spectrum[:count] / spectrum[1 : count + 1]).max())


def with_training_ratios(
    twonn_before: float, twonn: float, pca_before: float, pca: float
) -> Numbers:
    """Return two dimensions of an untrained and of the trained network, with their ratios."""
    return {
        "TwoNN untrained": twonn_before,
        "TwoNN trained": twonn,
        "TwoNN trained / untrained": twonn / twonn_before,
        "PCA untrained": pca_before,
        "PCA trained": pca,
        "PCA trained / untrained": pca / pca_before,
    }


def with_pca_ratio(twonn: float, pca: float) -> Numbers:
    """Return two dimensions of a layer with their ratio."""
    return with_ratios({"TwoNN": twonn, "PCA": pca}, ("PCA", "TwoNN"))


def with_gaussian_ratio(network: float, gaussian: float) -> Numbers:
    """Return the dimension of a layer and of a Gaussian of the same covariance."""
    return with_ratios({"network": network, "Gaussian": gaussian}, ("Gaussian", "network"))


# --- published numbers ---------------------------------------------------------------------------


def published_profile(figure: str, column: str) -> Numbers:
    """Return the published dimensions by layer of a column of a figure."""
    return dict(zip(published()[figure]["layers"], published()[figure][column], strict=True))


_TEXT = published()["text"]
_FIG6B = {
    run: published_profile("fig6b_mnist", run) for run in ("MNIST", "MNIST_star", "MNIST_dagger")
}
_FIG3B = dict(published()["fig3b_mean_ID_7_classes"]["vgg16"])
_FIG4 = published()["fig4_last_hidden"]
_FIG5B = published()["fig5b_vgg16_lasthidden"]
_FIG5C = published()["fig5c_vgg16"]
_FIG9A = published()["fig9a_cifar_vgg16_profile_by_epoch"]["profiles"]
_FIG9B = dict(published()["fig9b_last_hidden_ID_by_iteration"])

PCA = "pca_standardized"  # as in the paper
IMAGENET = "efficientnet_lite0"  # the network whose weights are a package

CLAIMS = [
    Claim(
        text="The digits themselves have an ID of about 13.",
        where="Fig. 6B, first 2000 test images",
        published={"input": _FIG6B["MNIST"]["input"]},
        limits=(("input", ">=", 12.9), ("input", "<=", 13.5)),
        needs=("mnist",),
        measure=lambda run: {"input": at_end(run.history)["input"]},
        tolerance=0.02,
    ),
    Claim(
        text="MNIST has no hunchback: the ID decreases from the input to the output.",
        where="Fig. 6B",
        published=with_largest_step(_FIG6B["MNIST"]),
        limits=((RISE, "<=", 1.10), ("output", "<", "input")),
        needs=("mnist",),
        measure=lambda run: with_largest_step(at_end(run.history)),
    ),
    Claim(
        text="It is the profile of a network that has learnt MNIST.",
        where="Fig. 6B; no accuracy given",
        published={},
        limits=(("test accuracy", ">=", 0.985),),
        needs=("mnist",),
        measure=lambda run: {"test accuracy": run.metric("val_acc")},
        form=".1%",
    ),
    Claim(
        text="A random luminance reduces the ID of the digits to about 3 (MNIST*).",
        where="Fig. 6B",
        published={"input": _FIG6B["MNIST_star"]["input"]},
        limits=(("input", ">=", 2.5), ("input", "<=", 3.5)),
        needs=("mnist_luminance",),
        measure=lambda run: {"input": at_end(run.history)["input"]},
    ),
    Claim(
        text="On MNIST* the hunchback appears: the ID increases to more than twice that of the"
        " input, then decreases.",
        where="Fig. 6B",
        published=with_hunchback_ratios(_FIG6B["MNIST_star"]),
        limits=(
            ("conv2 / input", ">", 2.0),
            ("pool2 / input", ">", 2.0),
            ("d1 / pool2", "<", 1.0),
            ("output / d1", "<", 1.0),
        ),
        needs=("mnist_luminance",),
        measure=lambda run: with_hunchback_ratios(at_end(run.history)),
    ),
    Claim(
        text="Training makes the hunchback: the untrained network is flat.",
        where="Fig. 5C, VGG-16 on ImageNet",
        published=peak_ratios(_FIG5C["ID_untrained"], _FIG5C["ID_trained"]),
        limits=(("untrained, highest / input", "<", 1.3), ("trained, highest / input", ">", 2.0)),
        needs=("mnist_luminance",),
        measure=lambda run: measured_peak_ratios(run.history),
        is_same_network=False,
    ),
    Claim(
        text="The network has learnt MNIST*.",
        where="text",
        published={"test accuracy": _TEXT["MNIST_star_accuracy"]},
        limits=(("test accuracy", ">=", 0.90),),
        needs=("mnist_luminance",),
        measure=lambda run: {"test accuracy": run.metric("val_acc")},
        tolerance=0.01,
        form=".1%",
    ),
    Claim(
        text="With shuffled labels the training set is memorised (MNIST-dagger).",
        where="text",
        published={"training accuracy": _TEXT["MNIST_dagger_training_accuracy"]},
        limits=(("training accuracy", ">=", 0.99),),
        needs=("mnist_shuffled",),
        measure=lambda run: {"training accuracy": run.metric("train_acc")},
        tolerance=0.01,
        form=".1%",
    ),
    Claim(
        text="With shuffled labels the ID increases in the second half of the network: measured on"
        " training images.",
        where="Fig. 6B, on test images",
        published=with_last_hidden_ratios(_FIG6B["MNIST_dagger"]),
        limits=(("d1 / input", ">=", 1.08), ("d1 / conv2", ">=", 1.2)),
        needs=("mnist_shuffled",),
        measure=lambda run: with_last_hidden_ratios(at_end(run.on_train())),
    ),
    Claim(
        text="The same on test images.",
        where="Fig. 6B",
        published=with_last_hidden_ratios(_FIG6B["MNIST_dagger"]),
        limits=(("d1 / input", ">", 1.0), ("d1 / conv2", ">", 1.0)),
        needs=("mnist_shuffled",),
        measure=lambda run: with_last_hidden_ratios(at_end(run.history)),
    ),
    Claim(
        text="The labels cause it: d1 / conv2 is higher than after training on the true ones, and"
        " than before training.",
        where="Fig. 6B",
        published={
            "shuffled": with_last_hidden_ratios(_FIG6B["MNIST_dagger"])["d1 / conv2"],
            "true": with_last_hidden_ratios(_FIG6B["MNIST"])["d1 / conv2"],
        },
        limits=(("shuffled", ">", "true"), ("shuffled", ">", "untrained")),
        needs=("mnist_shuffled", "mnist"),
        measure=lambda shuffled, true: {
            "shuffled": with_last_hidden_ratios(at_end(shuffled.history))["d1 / conv2"],
            "true": with_last_hidden_ratios(at_end(true.history))["d1 / conv2"],
            "untrained": with_last_hidden_ratios(at_start(shuffled.history))["d1 / conv2"],
        },
    ),
    Claim(
        text="Dynamics: before training, and in the first few steps, the profile is flat"
        " (highest / lowest layer).",
        where="Fig. 9A, VGG-16 on CIFAR-10",
        published={"step 0": highest_over_lowest(_FIG9A["0"][:-1])},
        limits=(("step 0", "<", 1.3), ("step 2", "<", 1.3), ("step 5", "<", 1.3)),
        needs=("mnist_dynamics",),
        measure=lambda run: {
            f"step {step}": highest_over_lowest(without_output(at_step(run.history, step)))
            for step in (0, 2, 5, 10)
        },
        is_same_network=False,
    ),
    Claim(
        text="Dynamics: then the last hidden layer contracts fast.",
        where="Fig. 9B, VGG-16 on CIFAR-10",
        published={
            "start": _FIG9B[0],
            "step 90": _FIG9B[90],
            "step 90 / start": _FIG9B[90] / _FIG9B[0],
        },
        limits=(("step 100 / start", "<=", 0.65),),
        needs=("mnist_dynamics",),
        measure=lambda run: contraction(run.history),
        is_same_network=False,
    ),
    Claim(
        text="Dynamics: then it expands slowly (end / minimum).",
        where="Fig. 9B, VGG-16 on CIFAR-10",
        published={"last hidden": _FIG9B[max(_FIG9B)] / min(_FIG9B.values())},
        limits=(("pool2", ">=", 1.08),),
        needs=("mnist_dynamics",),
        measure=lambda run: {
            "pool2": expansion(run.history, "pool2"),
            "last hidden": expansion(run.history, "d1"),
        },
        is_same_network=False,
    ),
    Claim(
        text="A VGG-16 that is fine-tuned on views of 40 objects has a hunchback.",
        where="Fig. 2A",
        published=published_profile("fig2a_vgg16r", "ID"),
        obstacle="the 1440 images are not part of the paper's code",
    ),
    Claim(
        text="A network trained on ImageNet has a hunchback.",
        where="Fig. 3B, VGG-16, mean of 7 classes",
        published={
            "input": _FIG3B[0.0],
            "highest": max(_FIG3B.values()),
            "last hidden": _FIG3B[0.941],
            "output": _FIG3B[1.0],
        },
        limits=(("highest", ">", 80.0), ("last hidden", "<", 30.0), ("input", "<", "highest")),
        needs=(IMAGENET,),
        measure=lambda run: hunchback(run.history),
        is_same_network=False,
        form=".3g",
    ),
    Claim(
        text="In every layer the ID is far below the number of units.",
        where="text",
        published={},
        limits=(("highest ID / units", "<", 0.1),),
        needs=(IMAGENET,),
        measure=lambda run: {"highest ID / units": largest_share_of_units(run.history)},
        form=".3g",
    ),
    Claim(
        text="On ImageNet, too, training makes the hunchback: the untrained network is flat.",
        where="Fig. 5C, VGG-16",
        published=peak_ratios(_FIG5C["ID_untrained"], _FIG5C["ID_trained"]),
        limits=(("untrained, highest / input", "<", 1.3), ("trained, highest / input", ">", 2.0)),
        needs=(IMAGENET,),
        measure=lambda run: measured_peak_ratios(run.history),
        is_same_network=False,
    ),
    Claim(
        text="Training changes the ID, and hardly the PCA dimension (highest layer).",
        where="Fig. 5C, VGG-16",
        published=with_training_ratios(
            max(_FIG5C["ID_untrained"]),
            max(_FIG5C["ID_trained"]),
            max(_FIG5C["PCID_untrained"]),
            max(_FIG5C["PCID_trained"]),
        ),
        limits=(("TwoNN trained / untrained", ">", 2.0), ("PCA trained / untrained", "<", 1.3)),
        needs=(IMAGENET,),
        measure=lambda run: with_training_ratios(
            *(
                max(at(run.history, estimator).values())
                for estimator in ("twonn", PCA)
                for at in (at_start, at_end)
            )
        ),
        is_same_network=False,
        form=".3g",
    ),
    Claim(
        text="The last hidden layer is curved: PCA needs many times its ID.",
        where="Fig. 5C, VGG-16",
        published=with_pca_ratio(_FIG5C["ID_trained"][-2], _FIG5C["PCID_trained"][-2]),
        limits=(("PCA / TwoNN", ">", 5.0),),
        needs=(IMAGENET,),
        measure=lambda run: with_pca_ratio(
            at_last_hidden(run.history, "twonn"), at_last_hidden(run.history, PCA)
        ),
        is_same_network=False,
        form=".3g",
    ),
    Claim(
        text="Its spectrum has no gap: no eigenvalue falls to less than half of the one before.",
        where="Fig. 5A, a plot, of standardised units",
        published={},
        limits=(("largest ratio of neighbours", "<", 2.0),),
        needs=(IMAGENET,),
        measure=lambda run: {"largest ratio of neighbours": largest_eigenvalue_ratio(run.history)},
    ),
    Claim(
        text="A Gaussian of the same covariance has a far higher ID.",
        where="Fig. 5B, VGG-16, 2000 images; the deviations of the Gaussian there are too large",
        published=with_gaussian_ratio(
            _FIG5B["ID_original"][_FIG5B["N"].index(2000)],
            _FIG5B["ID_synthetic_gaussian"][_FIG5B["N"].index(2000)],
        ),
        limits=(("Gaussian / network", ">", 2.0),),
        needs=(IMAGENET,),
        measure=lambda run: with_gaussian_ratio(
            at_last_hidden(run.history, "twonn"), at_last_hidden(run.history, "twonn_gaussian")
        ),
        is_same_network=False,
        form=".3g",
    ),
    Claim(
        text="The ID of the last hidden layer correlates with the top-5 error of 14 networks.",
        where="Fig. 4",
        published={
            "Pearson r, text": _TEXT["last_hidden_pearson"],
            "Pearson r, from the figure": statistics.correlation(
                list(_FIG4["top5_error"].values()), list(_FIG4["ID"].values())
            ),
        },
        obstacle="it takes the 14 networks, whose weights this script does not download;"
        " docs/study_architectures.md has small networks",
        form=".3f",
    ),
    Claim(
        text="Within one architecture it does not correlate with the accuracy (50 seeds of VGG-16"
        " on CIFAR-10).",
        where="text",
        published={"Pearson r": _TEXT["cifar10_vgg16_50_seeds_pearson"]},
        obstacle="50 trainings of VGG-16 take days on two CPU cores; docs/study_mnist.md has"
        " small networks",
        form=".3f",
    ),
]
