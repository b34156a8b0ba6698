"""FLOPs against published figures, against the program itself and against XLA; the peak table; the meter."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from albert_jax.model.config import albert
from albert_jax.model.heads import AlbertForPretraining
from albert_jax.telemetry import throughput


def matmul_flops(function, *arguments):
    """Nothing is run: arguments may be `jax.ShapeDtypeStruct`s."""
    return throughput.traced_matmul_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


@dataclass(frozen=True)
class Sizes:
    layers: int
    hidden_size: int
    embedding_size: int = 128
    feed_forward_size: int = 0
    vocab_size: int = 30_000
    inner_groups: int = 1

    @classmethod
    def of(cls, layers: int, hidden_size: int) -> "Sizes":
        return cls(layers, hidden_size, feed_forward_size=4 * hidden_size)


@pytest.mark.parametrize(
    "layers, hidden_size, at_512, at_128",
    [(12, 768, 0.570, 0.528), (24, 1024, 1.967, 1.854), (24, 2048, 7.555, 7.329), (12, 4096, 14.805, 14.579)],
    ids=["base", "large", "xlarge", "xxlarge"],
)
def test_published_sizes(layers, hidden_size, at_512, at_128):
    """GFLOP per token of a training step with 15 % of the positions predicted, worked out by hand."""
    sizes = Sizes.of(layers, hidden_size)
    assert throughput.train_flops_per_token(sizes, 512, 0.15 * 512) / 1e9 == pytest.approx(at_512, abs=6e-4)
    assert throughput.train_flops_per_token(sizes, 128, 0.15 * 128) / 1e9 == pytest.approx(at_128, abs=6e-4)


def test_sharing_does_not_make_it_cheap():
    """6 x parameters would count ALBERT-base's one block once; it runs twelve times."""
    flops = throughput.train_flops_per_token(Sizes.of(12, 768), 512, 77)
    assert flops / (6 * 11_683_584) == pytest.approx(8.1, abs=0.1)


B, S, P, HEADS = 2, 32, 6, 4
SMALL = Sizes(layers=5, hidden_size=64, embedding_size=32, feed_forward_size=160, vocab_size=500)


def loss(weights, ids, positions, unroll=1):
    """The matmuls of ALBERT pretraining, written out plainly: F is not 4 D here, and E is not D."""
    D, K = SMALL.hidden_size, SMALL.hidden_size // HEADS
    x = weights["table"][ids] @ weights["project"]

    def layer(x, _):
        q, k, v = ((x @ weights[name]).reshape(B, S, HEADS, K) for name in "qkv")
        scores = jax.nn.softmax(jnp.einsum("bqnk,bsnk->bnqs", q, k))
        x = x + jnp.einsum("bnqs,bsnk->bqnk", scores, v).reshape(B, S, D) @ weights["o"]
        return x + jax.nn.gelu(x @ weights["up"]) @ weights["down"], None

    x, _ = jax.lax.scan(layer, x, None, length=SMALL.layers, unroll=unroll)
    pooled = jnp.tanh(x[:, 0] @ weights["pool"])
    masked = jnp.take_along_axis(x, positions[..., None], axis=1)
    logits = (masked @ weights["transform"]) @ weights["table"].T
    return jax.nn.logsumexp(logits).sum() + pooled.sum()


@pytest.fixture(scope="module")
def arguments():
    D, E, F, V = SMALL.hidden_size, SMALL.embedding_size, SMALL.feed_forward_size, SMALL.vocab_size
    shapes = {"table": (V, E), "project": (E, D), "up": (D, F), "down": (F, D), "transform": (D, E)}
    shapes |= dict.fromkeys(("q", "k", "v", "o", "pool"), (D, D))
    weights = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    ids, positions = (jax.ShapeDtypeStruct((B, length), jnp.int32) for length in (S, P))
    return weights, ids, positions


def test_formula_counts_the_matmuls_of_the_program(arguments):
    forward = matmul_flops(loss, *arguments)
    assert forward == pytest.approx(B * S * throughput.forward_flops_per_token(SMALL, S, P), rel=1e-9)
    train = matmul_flops(jax.value_and_grad(loss), *arguments)
    assert train == pytest.approx(B * S * throughput.train_flops_per_token(SMALL, S, P), rel=1e-9)


@pytest.mark.parametrize("size", ["base", "xxlarge"])
def test_formula_counts_the_matmuls_of_the_model(size):
    """The order head, 4 D a sequence, is all that the formula leaves out. Only traced, never run."""
    config = albert(size)
    graph, state = nnx.split(nnx.eval_shape(lambda: AlbertForPretraining(config, rngs=nnx.Rngs(0))))

    def total(state, *batch):
        mlm_logits, order_logits = nnx.merge(graph, state)(*batch)
        return jax.nn.logsumexp(mlm_logits).sum() + jax.nn.logsumexp(order_logits).sum()

    ids, mask, positions = (
        jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in (((2, 512), int), ((2, 512), bool), ((2, 77), int))
    )
    batch = (ids, ids, mask, positions)
    forward = matmul_flops(total, state, *batch)
    train = matmul_flops(jax.grad(total), state, *batch)
    assert forward == pytest.approx(1024 * throughput.forward_flops_per_token(config, 512, 77), rel=1e-5)
    assert train == pytest.approx(1024 * throughput.train_flops_per_token(config, 512, 77), rel=1e-5)


def test_remat_is_work_and_not_model_flops(arguments):
    forward = matmul_flops(loss, *arguments)
    repeated = matmul_flops(jax.grad(jax.checkpoint(loss)), *arguments)
    assert repeated > 3.5 * forward  # the walker sees the second forward pass, the formula does not


def test_formula_is_near_to_xla(arguments):
    """XLA counts a loop body once, so the layers are unrolled for it; the rest of its count is softmax, GELU
    and the like, which are a few percent at this width."""
    compiled = jax.jit(lambda *a: loss(*a, unroll=SMALL.layers)).lower(*arguments).compile()
    expected = B * S * throughput.forward_flops_per_token(SMALL, S, P)
    assert expected <= compiled.cost_analysis()["flops"] <= 1.15 * expected


def test_no_head_no_projection_more_blocks():
    sizes = Sizes(2, 64, 64, 256, 500)
    block = 24 * 64**2 + 4 * 16 * 64
    assert throughput.forward_flops_per_token(sizes, 16) == 2 * block + 2 * 64**2 / 16
    assert throughput.forward_flops_per_token(replace(sizes, inner_groups=3), 16) == 6 * block + 2 * 64**2 / 16


@pytest.mark.parametrize(
    "kind, tera",
    [
        ("TPU v3", 61.5),  # half a chip
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla T4", 65),  # float16: it has no bfloat16
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", None),  # another card
        ("NVIDIA H200", 989),
        ("TPU7x", 1153.5),  # half a chip
        ("TPU v99", None),
        ("cpu", None),
    ],
)
def test_device_peak(kind, tera):
    assert throughput.device_peak(kind) == (None if tera is None else tera * 1e12)


def test_share_of_unknown_peak_is_unknown():
    for peak, share in ((None, None), (1e12, 0.5)):
        clock = Clock()
        meter = throughput.Meter(tokens_per_step=1000, flops_per_token=5e8, peak=peak, clock=clock)
        meter.lap(1)
        clock.now += 1.0
        assert meter.lap(2).get("peak_share") == share


def test_matmul_peak_is_a_plausible_rate():
    """Between a pocket calculator and a whole pod: the value itself belongs to the machine."""
    assert 1e8 < throughput.measure_matmul_peak(sizes=(128, 256), seconds=0.05) < 1e16


def test_cpu_is_measured_once_for_all_its_devices(monkeypatch):
    monkeypatch.setattr(throughput, "measure_matmul_peak", lambda: 7e10)
    device = jax.devices("cpu")[0]
    assert throughput.machine_peak([device] * 8) == 7e10


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_meter_leaves_out_compilation_and_pauses():
    clock = Clock()
    meter = throughput.Meter(tokens_per_step=1000, flops_per_token=2e6, peak=1e10, clock=clock)
    clock.now += 30.0  # compiling
    assert meter.lap(1) == {"seconds": 30.0}
    for _ in range(5):
        with meter.waiting():
            clock.now += 0.1
        clock.now += 0.4
    with meter.pause():
        clock.now += 50.0
    lap = meter.lap(6)
    assert lap["tokens_per_second"] == pytest.approx(2000.0)
    assert lap["data_wait_share"] == pytest.approx(0.2)
    assert lap["peak_share"] == pytest.approx(0.4)
    assert lap["seconds"] == pytest.approx(82.5)
    clock.now += 1.0
    lap = meter.lap(7)  # nothing is carried over
    assert (lap["tokens_per_second"], lap["data_wait_share"]) == (pytest.approx(1000.0), 0.0)


def test_meter_counts_steps_of_several_sizes_and_not_what_compiles():
    clock = Clock()
    meter = throughput.Meter(tokens_per_step=1000, flops_per_token=2e6, peak=1e10, clock=clock)
    meter.lap(1)
    for tokens, flops_per_token in ((1000, 2e6), (250, 1e6), (250, 1e6)):
        clock.now += 0.5
        meter.took(tokens, flops_per_token)
    with meter.compiling():
        clock.now += 20.0
    lap = meter.lap(5)
    assert lap["tokens_per_second"] == pytest.approx(1000.0)
    assert lap["seconds_per_step"] == pytest.approx(0.5)
    assert lap["model_flops_per_second"] == pytest.approx((1000 * 2e6 + 500 * 1e6) / 1.5)
    assert lap["peak_share"] == pytest.approx(0.25 * 2 / 3)
    with meter.compiling():
        clock.now += 20.0
    assert set(meter.lap(6)) == {"seconds"}
    clock.now += 1.0
    meter.took(500, 2e6)
    assert meter.lap(7)["tokens_per_second"] == pytest.approx(500.0)


def test_meter_without_a_peak_or_a_step():
    clock = Clock()
    meter = throughput.Meter(tokens_per_step=10, flops_per_token=2e6, peak=None, clock=clock)
    meter.lap(3)
    clock.now += 1.0
    assert "tokens_per_second" not in meter.lap(3)
    clock.now += 1.0
    assert "peak_share" not in meter.lap(4)
