"""The claims of the source work, one by one: add a line here for what is reproduced next."""

import statistics
from collections.abc import Sequence
from itertools import pairwise

from lightning_id.experiments.claims import Claim, Numbers, at_end, at_start, at_step, profile
from lightning_id.experiments.published import published
from lightning_id.history import History

# --- what is compared ----------------------------------------------------------------------------

RISE = "largest step up"


def falling(ids: Numbers) -> Numbers:
    """Return a profile with the largest ratio of a layer to the one before it."""
    return {**ids, RISE: max(b / a for a, b in pairwise(ids.values()))}


def humped(ids: Numbers) -> Numbers:
    """Return a profile with the ratios that make a hunchback."""
    ratios = [("conv2", "input"), ("pool2", "input"), ("d1", "pool2"), ("output", "d1")]
    return {**ids, **{f"{a} / {b}": ids[a] / ids[b] for a, b in ratios}}


def rising(ids: Numbers) -> Numbers:
    """Return the last hidden layer of a profile beside the input and the second convolution."""
    return {
        **{name: ids[name] for name in ("input", "conv2", "d1")},
        "d1 / input": ids["d1"] / ids["input"],
        "d1 / conv2": ids["d1"] / ids["conv2"],
    }


def over_input(ids: Sequence[float]) -> float:
    """Return the highest layer of a profile over the first."""
    return max(ids) / ids[0]


def spread(ids: Sequence[float]) -> float:
    """Return the highest layer of a profile over the lowest."""
    return max(ids) / min(ids)


def hidden(ids: Numbers) -> list[float]:
    """Return a profile without the output, whose few units alone limit its dimension."""
    return list(ids.values())[:-1]


def contraction(history: History) -> Numbers:
    """Return the last hidden layer before training and after 100 steps."""
    start, later = at_start(history)["d1"], at_step(history, 100)["d1"]
    return {"start": start, "step 100": later, "step 100 / start": later / start}


def expansion(history: History, layer: str) -> float:
    """Return the last measurement of a layer over its smallest."""
    course = [profile(history, validation)[layer] for validation in history.validations()]
    return course[-1] / min(course)


# --- what was published --------------------------------------------------------------------------

_TEXT = published()["text"]
_FIG6B = {
    run: dict(
        zip(published()["fig6b_mnist"]["layers"], published()["fig6b_mnist"][run], strict=True)
    )
    for run in ("MNIST", "MNIST_star", "MNIST_dagger")
}
_FIG2A = dict(
    zip(published()["fig2a_vgg16r"]["layers"], published()["fig2a_vgg16r"]["ID"], strict=True)
)
_FIG3B = dict(published()["fig3b_mean_ID_7_classes"]["vgg16"])
_FIG4 = published()["fig4_last_hidden"]
_FIG5B = published()["fig5b_vgg16_lasthidden"]
_FIG5C = published()["fig5c_vgg16"]
_FIG9A = published()["fig9a_cifar_vgg16_profile_by_epoch"]["profiles"]
_FIG9B = dict(published()["fig9b_last_hidden_ID_by_iteration"])

_IMAGENET = "it needs networks trained on ImageNet and its images, which this script does not fetch"

CLAIMS = [
    Claim(
        says="The digits themselves have an ID of about 13.",
        where="Fig. 6B, first 2000 test images",
        published={"input": _FIG6B["MNIST"]["input"]},
        limits=(("input", ">=", 12.9), ("input", "<=", 13.5)),
        needs=("mnist",),
        measure=lambda runs: {"input": at_end(runs["mnist"].history)["input"]},
        tolerance=0.02,
    ),
    Claim(
        says="MNIST has no hunchback: the ID falls from the input to the output.",
        where="Fig. 6B",
        published=falling(_FIG6B["MNIST"]),
        limits=((RISE, "<=", 1.10), ("output", "<", "input")),
        needs=("mnist",),
        measure=lambda runs: falling(at_end(runs["mnist"].history)),
    ),
    Claim(
        says="It is the profile of a network that has learnt MNIST.",
        where="Fig. 6B; no accuracy given",
        published={},
        limits=(("test accuracy", ">=", 0.985),),
        needs=("mnist",),
        measure=lambda runs: {"test accuracy": runs["mnist"].metric("val_acc")},
        form=".1%",
    ),
    Claim(
        says="A random luminance brings the ID of the digits down to about 3 (MNIST*).",
        where="Fig. 6B",
        published={"input": _FIG6B["MNIST_star"]["input"]},
        limits=(("input", ">=", 2.5), ("input", "<=", 3.5)),
        needs=("mnist_luminance",),
        measure=lambda runs: {"input": at_end(runs["mnist_luminance"].history)["input"]},
    ),
    Claim(
        says="On MNIST* the hunchback appears: the ID rises to more than twice that of the input,"
        " then falls.",
        where="Fig. 6B",
        published=humped(_FIG6B["MNIST_star"]),
        limits=(
            ("conv2 / input", ">", 2.0),
            ("pool2 / input", ">", 2.0),
            ("d1 / pool2", "<", 1.0),
            ("output / d1", "<", 1.0),
        ),
        needs=("mnist_luminance",),
        measure=lambda runs: humped(at_end(runs["mnist_luminance"].history)),
    ),
    Claim(
        says="Training makes the hunchback: the untrained network is flat.",
        where="Fig. 5C, VGG-16 on ImageNet",
        published={
            "untrained, highest / input": over_input(_FIG5C["ID_untrained"]),
            "trained, highest / input": over_input(_FIG5C["ID_trained"]),
        },
        limits=(
            ("untrained, highest / input", "<", 1.3),
            ("trained, highest / input", ">", 2.0),
        ),
        needs=("mnist_luminance",),
        measure=lambda runs: {
            "untrained, highest / input": over_input(
                hidden(at_start(runs["mnist_luminance"].history))
            ),
            "trained, highest / input": over_input(hidden(at_end(runs["mnist_luminance"].history))),
        },
        is_same_network=False,
    ),
    Claim(
        says="The network has learnt MNIST*.",
        where="text",
        published={"test accuracy": _TEXT["MNIST_star_accuracy"]},
        limits=(("test accuracy", ">=", 0.90),),
        needs=("mnist_luminance",),
        measure=lambda runs: {"test accuracy": runs["mnist_luminance"].metric("val_acc")},
        tolerance=0.01,
        form=".1%",
    ),
    Claim(
        says="With shuffled labels the training set is memorised (MNIST-dagger).",
        where="text",
        published={"training accuracy": _TEXT["MNIST_dagger_training_accuracy"]},
        limits=(("training accuracy", ">=", 0.99),),
        needs=("mnist_shuffled",),
        measure=lambda runs: {"training accuracy": runs["mnist_shuffled"].metric("train_acc")},
        tolerance=0.01,
        form=".1%",
    ),
    Claim(
        says="With shuffled labels the ID rises in the second half of the network: measured on"
        " training images.",
        where="Fig. 6B, on test images",
        published=rising(_FIG6B["MNIST_dagger"]),
        limits=(("d1 / input", ">=", 1.08), ("d1 / conv2", ">=", 1.2)),
        needs=("mnist_shuffled",),
        measure=lambda runs: rising(at_end(runs["mnist_shuffled"].on_train())),
    ),
    Claim(
        says="The same on test images.",
        where="Fig. 6B",
        published=rising(_FIG6B["MNIST_dagger"]),
        limits=(("d1 / input", ">", 1.0), ("d1 / conv2", ">", 1.0)),
        needs=("mnist_shuffled",),
        measure=lambda runs: rising(at_end(runs["mnist_shuffled"].history)),
    ),
    Claim(
        says="It is the labels that do it: d1 / conv2 is higher than after training on the true"
        " ones, and than before training.",
        where="Fig. 6B",
        published={
            "shuffled": rising(_FIG6B["MNIST_dagger"])["d1 / conv2"],
            "true": rising(_FIG6B["MNIST"])["d1 / conv2"],
        },
        limits=(("shuffled", ">", "true"), ("shuffled", ">", "untrained")),
        needs=("mnist_shuffled", "mnist"),
        measure=lambda runs: {
            "shuffled": rising(at_end(runs["mnist_shuffled"].history))["d1 / conv2"],
            "true": rising(at_end(runs["mnist"].history))["d1 / conv2"],
            "untrained": rising(at_start(runs["mnist_shuffled"].history))["d1 / conv2"],
        },
    ),
    Claim(
        says="Dynamics: before training, and in the first few steps, the profile is flat"
        " (highest / lowest layer).",
        where="Fig. 9A, VGG-16 on CIFAR-10",
        published={"step 0": spread(_FIG9A["0"][:-1])},
        limits=(("step 0", "<", 1.3), ("step 2", "<", 1.3), ("step 5", "<", 1.3)),
        needs=("mnist_dynamics",),
        measure=lambda runs: {
            f"step {step}": spread(hidden(at_step(runs["mnist_dynamics"].history, step)))
            for step in (0, 2, 5, 10)
        },
        is_same_network=False,
    ),
    Claim(
        says="Dynamics: then the last hidden layer contracts fast.",
        where="Fig. 9B, VGG-16 on CIFAR-10",
        published={
            "start": _FIG9B[0],
            "step 90": _FIG9B[90],
            "step 90 / start": _FIG9B[90] / _FIG9B[0],
        },
        limits=(("step 100 / start", "<=", 0.65),),
        needs=("mnist_dynamics",),
        measure=lambda runs: contraction(runs["mnist_dynamics"].history),
        is_same_network=False,
    ),
    Claim(
        says="Dynamics: then it expands slowly (end / minimum).",
        where="Fig. 9B, VGG-16 on CIFAR-10",
        published={"last hidden": _FIG9B[max(_FIG9B)] / min(_FIG9B.values())},
        limits=(("pool2", ">=", 1.08),),
        needs=("mnist_dynamics",),
        measure=lambda runs: {
            "pool2": expansion(runs["mnist_dynamics"].history, "pool2"),
            "last hidden": expansion(runs["mnist_dynamics"].history, "d1"),
        },
        is_same_network=False,
    ),
    Claim(
        says="A VGG-16 that is fine-tuned on views of 40 objects has a hunchback.",
        where="Fig. 2A",
        published=_FIG2A,
        obstacle="the 1440 images are not part of the source work's code",
    ),
    Claim(
        says="Networks trained on ImageNet have a hunchback (VGG-16, mean of 7 classes).",
        where="Fig. 3B",
        published={"input": _FIG3B[0.0], "highest": max(_FIG3B.values()), "output": _FIG3B[1.0]},
        obstacle=_IMAGENET,
    ),
    Claim(
        says="The ID of the last hidden layer goes with the top-5 error of 14 networks.",
        where="Fig. 4",
        published={
            "Pearson r, text": _TEXT["last_hidden_pearson"],
            "Pearson r, from the figure": statistics.correlation(
                list(_FIG4["top5_error"].values()), list(_FIG4["ID"].values())
            ),
        },
        obstacle=_IMAGENET,
        form=".3f",
    ),
    Claim(
        says="A Gaussian of the same covariance has a far higher ID: the representation is curved"
        " (VGG-16, last hidden, 2000 images).",
        where="Fig. 5B; the Gaussian there has wrong deviations",
        published={
            "network": _FIG5B["ID_original"][_FIG5B["N"].index(2000)],
            "Gaussian": _FIG5B["ID_synthetic_gaussian"][_FIG5B["N"].index(2000)],
        },
        obstacle=_IMAGENET,
    ),
    Claim(
        says="Training changes the ID, and hardly the PCA dimension (VGG-16, highest layer).",
        where="Fig. 5C",
        published={
            "TwoNN trained": max(_FIG5C["ID_trained"]),
            "TwoNN untrained": max(_FIG5C["ID_untrained"]),
            "PCA trained": max(_FIG5C["PCID_trained"]),
            "PCA untrained": max(_FIG5C["PCID_untrained"]),
        },
        obstacle=_IMAGENET,
    ),
    Claim(
        says="Within one architecture it does not go with the accuracy (50 seeds of VGG-16 on"
        " CIFAR-10).",
        where="text",
        published={"Pearson r": _TEXT["cifar10_vgg16_50_seeds_pearson"]},
        obstacle="50 trainings of VGG-16 take days on two CPU cores",
        form=".3f",
    ),
]
