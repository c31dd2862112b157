"""The layers that a network ends in: from the calls of one forward pass."""

import copy

import pytest
import torch
from torch import nn

from lightning_id.recording.hooks import Hooks
from lightning_id.recording.modules import named_layers
from lightning_id.recording.trace import Trace
from tests.toys import count_hooks

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Runs(nn.Module):
    """Modules by name, and a function of them and the batch that is the forward pass."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.run = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


def linear(inner=6, outer=6):
    return nn.Linear(inner, outer)


def searched(net, *args, batch=None, keep=None, **kwargs):
    """Return the search after a pass; the batch exists before it."""
    search, hooks = Trace({}, keep), Hooks()
    search.attach(net, hooks, (args, kwargs) if batch is None else batch)
    net(*args, **kwargs)
    hooks.remove()
    assert count_hooks(net) == 0
    return search


def ends(net, *args, **options):
    """Return the names of the ends of a network."""
    names = {module: name for name, module in named_layers(net).items()}
    return [names[end.layer] for end in searched(net, *(args or (X,)), **options).ends]


def test_a_chain_ends_in_its_last_layer_with_weights():
    net = nn.Sequential(linear(), nn.ReLU(), linear(6, 3), nn.Softmax(1), nn.Dropout())
    search = searched(net, X)
    assert search.last_linear is net[2]
    assert search.failure is None


def test_the_end_is_that_of_execution_and_not_of_registration():
    net = Runs(lambda net, x: net.first(net.second(x)), first=linear(), second=linear())
    assert ends(net) == ["first"]


def test_functions_after_a_layer_are_no_end():
    net = Runs(lambda net, x: net.b(x + net.a(x).relu()).mean(1).sigmoid(), a=linear(), b=linear())
    assert ends(net) == ["b"]


def test_two_branches_of_one_input_are_two_ends():
    net = Runs(lambda net, x: net.left(x) * net.right(x), left=linear(), right=linear(6, 6))
    # Linears that are given the same tensor have one last hidden representation.
    assert ends(net) == ["left"]
    other = Runs(lambda net, x: net.left(x) * net.right(x * 1), left=linear(), right=linear())
    assert ends(other) == ["right"]  # a function may depend on all before
    towers = [nn.Sequential(linear(), nn.ReLU(), linear()) for _ in "ab"]
    both = Runs(lambda net, x: net.a(x) * net.b(x), a=towers[0], b=towers[1])
    assert ends(both) == ["a.2", "b.2"]


def test_of_several_ends_the_one_of_the_first_output_counts():
    towers = [nn.Sequential(linear(), nn.ReLU(), linear()) for _ in "ab"]
    for first, name in (("a", "a.2"), ("b", "b.2")):

        def forward(net, x, first=first):
            a, b = net.a(x), net.b(x)
            return (a, b) if first == "a" else {"b": b, "a": a}

        inner = Runs(forward, a=towers[0], b=towers[1])
        assert ends(inner) == [name]
        # So it does for a network around it, whose output is of it.
        assert ends(nn.Sequential(Runs(lambda net, x: net.inner(x), inner=inner))) == [
            f"0.inner.{name}"
        ]


def test_weightless_modules_after_an_end_continue_it():
    towers = [nn.Sequential(linear(), nn.ReLU(), linear()) for _ in "ab"]

    def forward(net, x):
        a, b = net.a(x), net.b(x)
        return net.soft(a), b

    net = Runs(forward, a=towers[0], b=towers[1], soft=nn.Softmax(1))
    assert ends(net) == ["a.2"]


def test_a_copy_without_gradients_is_parallel_to_the_trained_branch():
    query = nn.Sequential(linear(), nn.ReLU(), linear())
    key = copy.deepcopy(query).requires_grad_(False)
    # The function on the input hides that the branches do not depend on one another.
    for forward in (
        lambda net, x: net.query(x) @ net.key(x.flip(1)).T,
        lambda net, x: net.query(x) @ net.key(net.query(x) * 0 + x).T,
    ):
        assert ends(Runs(forward, query=query, key=key)) == ["query.2"]
    other = nn.Sequential(linear(), linear()).requires_grad_(False)
    net = Runs(lambda net, x: net.other(net.query(x) * 2), query=query, other=other)
    net.other = Runs(lambda inner, x: inner.a(x), a=linear().requires_grad_(False))
    assert ends(net) == ["other.a"]  # a frozen head on a trained trunk is no copy


def test_a_frozen_branch_of_one_input_does_not_count_where_another_is_trained():
    towers = [nn.Sequential(linear(), nn.ReLU(), linear()) for _ in "ab"]
    towers[1].requires_grad_(False)
    net = Runs(lambda net, x: (net.a(x) * net.b(x)).sum(1), a=towers[0], b=towers[1])
    assert ends(net) == ["a.2"]
    towers[0].requires_grad_(False)
    assert ends(net) == ["a.2", "b.2"]


def test_a_norm_of_a_residual_sum_is_an_end_and_one_of_a_linear_is_none():
    def with_sum(net, x):
        return net.norm(x + net.layer(x))

    modules = {"layer": linear(), "norm": nn.LayerNorm(6)}
    assert ends(Runs(with_sum, **modules)) == ["norm"]
    assert ends(Runs(lambda net, x: net.norm(net.layer(x)), **modules)) == ["layer"]
    modules["norm"] = nn.LayerNorm(6, elementwise_affine=False)
    assert ends(Runs(with_sum, **modules)) == ["layer"]
    modules["norm"] = nn.PReLU()  # one parameter is no norm
    assert ends(Runs(with_sum, **modules)) == ["layer"]


def test_a_norm_of_the_sum_of_a_block_is_an_end():
    block = Runs(lambda net, x: x + net.layer(x), layer=linear())
    net = Runs(lambda net, x: net.norm(net.block(x)), block=block, norm=nn.LayerNorm(6))
    assert ends(net) == ["norm"]


def test_a_layer_that_is_called_again_is_no_second_end():
    net = Runs(lambda net, x: net.a(net.b(net.a(x))), a=linear(), b=linear())
    assert ends(net) == ["b"]


def test_an_embedding_and_a_metric_are_no_ends():
    table = nn.Embedding(9, 6)
    net = Runs(lambda net, x: net.table(net.layer(x).argmax(1)), layer=linear(), table=table)
    assert ends(net) == ["layer"]


def test_a_layer_that_exists_only_after_its_first_call_is_found():
    net = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    assert searched(net, X).last_linear is net[2]


def test_after_a_call_that_raised_and_was_caught_the_end_is_found():
    def fallback(net, x):
        try:
            return net.broken(x)
        except ZeroDivisionError:
            return net.layer(x)

    def fail(net, x):
        raise ZeroDivisionError

    net = Runs(fallback, broken=Runs(fail, inner=linear()), layer=linear())
    assert ends(net) == ["layer"]


def test_a_call_that_began_before_the_hooks_were_on_is_passed_over():
    search = Trace({})

    def attach(net, x):
        search.attach(net, Hooks())
        return net.layer(x)

    net = Runs(attach, layer=linear())
    net(X)
    assert search.failure is None
    assert search.last_linear is net.layer


def test_a_branch_that_is_given_nothing_may_depend_on_all_before():
    branch = Runs(lambda net: net.layer(net.layer.weight), layer=linear())
    net = Runs(lambda net, x: net.a(x) + net.b()[:5], a=linear(), b=branch)
    assert ends(net) == ["b.layer"]


def test_a_branch_of_results_of_modules_is_parallel_if_they_come_from_the_batch():
    left = nn.Sequential(linear(), nn.ReLU(), linear())
    right = Runs(lambda net, p, q: net.layer(p + q), layer=linear())

    def forward(net, x):
        return net.left(x) * net.right(net.one(x), net.other(x))

    net = Runs(forward, left=left, right=right, one=nn.Softmax(1), other=nn.Softplus())
    assert ends(net) == ["left.2", "right.layer"]
    chain = Runs(lambda net, x: net.b(net.one(net.a(x))), a=left, b=linear(), one=nn.Softmax(1))
    assert ends(chain) == ["b"]


def test_tensors_of_the_batch_existed_before_the_pass():
    def forward(net, x, y):
        a = net.a(x)
        return a * net.b(y)

    towers = [nn.Sequential(linear(), nn.ReLU(), linear()) for _ in "ab"]
    net = Runs(forward, a=towers[0], b=towers[1])
    y = X + 1
    assert ends(net, X, y) == ["a.2", "b.2"]
    assert ends(net, X, y, batch={"x": X, "more": (y, [])}) == ["a.2", "b.2"]


@pytest.mark.parametrize(
    "convert",
    [torch.Tensor.to_sparse, lambda x: torch.nested.as_nested_tensor(list(x))],
    ids=["sparse", "nested"],
)
def test_tensors_without_a_storage_do_not_end_the_search(convert):
    def forward(net, x):
        return net.layer(net.convert(x).to_dense() if x.is_sparse else net.convert(x)[0])

    net = Runs(forward, convert=nn.Identity(), layer=linear())
    search = searched(net, convert(X))
    assert search.failure is None
    assert search.last_linear is net.layer


def test_a_failure_ends_the_search_and_not_the_forward_pass():
    def keep(given, linear, last):
        raise ZeroDivisionError("mine")

    net = nn.Sequential(linear())
    search = Trace({}, keep)
    search.attach(net, Hooks())
    assert net(X).shape == (5, 6)
    assert search.last_linear is None
    assert search.why_no_linear(str) == (
        "it could not be found out in which layer the network ends, ZeroDivisionError('mine')"
    )


def test_why_there_is_no_linear_names_the_ends():
    def why(net):
        names = {module: name for name, module in named_layers(net).items()}
        return searched(net, X).why_no_linear(names.get)

    assert why(nn.Sequential(nn.ReLU())) == "no layer with weights was called"
    conv = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3))
    assert why(conv) == "the network ends in Conv1d '1', not in a Linear"
    towers = [nn.Sequential(linear(), nn.ReLU(), linear()) for _ in "ab"]
    both = Runs(lambda net, x: net.a(x) * net.b(x), a=towers[0], b=towers[1])
    assert why(both) == "the network has several ends, Linear 'a.2', Linear 'b.2'"


def test_inputs_of_linears_are_kept_while_they_may_be_an_end():
    calls = []

    def keep(given, linear, last):
        calls.append((linear, last))
        return None if bool((given < 0).all()) else given.clone()

    def forward(net, x):
        x = net.trunk(x)
        return net.head(x) + net.head(x + 1) + net.head(-x.abs()) + net.head(x + 2)

    net = Runs(forward, trunk=linear(), head=linear())
    (end,) = searched(net, X, keep=keep).ends
    hidden = net.trunk(X)
    assert end.layer is net.head
    for kept, expected in zip(end.kept, (hidden, hidden + 1, hidden + 2), strict=True):
        assert torch.equal(kept, expected)
    assert [layer for layer, _ in calls] == [net.trunk, *[net.head] * 4]
    lasts = [last for _, last in calls[1:]]
    expected = [None, end.kept[0], end.kept[1], end.kept[1]]  # a result of None is not kept
    assert all(last is kept for last, kept in zip(lasts, expected, strict=True))
