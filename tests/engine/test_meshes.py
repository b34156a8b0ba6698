"""Meshes: the same ten steps on all of them, a checkpoint that moves between them, and what cannot be divided."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from albert_jax import experiment as experiments
from albert_jax.commands.args import parse
from albert_jax.engine.checkpoint import Checkpoints, open_for_reading
from albert_jax.engine.sharding import AXES, MeshConfig, preset
from albert_jax.engine.state import abstract_params, abstract_state, create, lay_out, logical_axes
from albert_jax.engine.step import make_gradients
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import Lamb
from albert_jax.tasks.pretrain import PretrainObjective
from albert_jax.train import dry_run
from benchmarks import mesh_equality
from benchmarks.mesh_equality import CASES, LENGTH, MODEL, OPTIM, PREDICTIONS, STEPS, on
from tests import tiny

TASK = PretrainObjective(MODEL, LENGTH, PREDICTIONS)
FULL = PretrainObjective(albert("base"), 512, 77)


@pytest.fixture(scope="module")
def reference():
    return mesh_equality.run(CASES["1 device"])


@pytest.mark.parametrize("name", [name for name in CASES if name != "1 device"])
def test_ten_steps_are_those_of_one_device(reference, name):
    losses, params = mesh_equality.difference(mesh_equality.run(CASES[name]), reference)
    assert losses < 1e-5
    assert params < 1e-5


def test_those_ten_steps_move_the_loss_and_drop_out(reference):
    assert reference[0][0] - reference[0][-1] > 0.3
    still = dataclasses.replace(CASES["1 device"], model=dataclasses.replace(MODEL, hidden_dropout=0.0))
    assert mesh_equality.difference(mesh_equality.run(still), reference)[0] > 1e-3


@pytest.mark.parametrize("mesh", [on(data=8), on(data=2, fsdp=2, tensor=2), on(1, fsdp=4, tensor=2)], ids=str)
def test_fresh_parameters_do_not_depend_on_the_mesh(mesh):
    optimizer = OPTIM.build(STEPS, abstract_params(TASK))
    one, many = (create(TASK, optimizer, 3, lay_out(TASK, each)).params for each in (MeshConfig(devices=1), mesh))
    # The last bit of a product may differ where the compiler forms it otherwise.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=0), many, one)
    assert np.std(one["albert"]["pooler"]["kernel"]) > 0.01


def test_the_originals_clipping_clips_every_device_and_adds_up():
    """Against the gradient of each device's rows alone."""
    layout, one = lay_out(TASK, on(data=2, fsdp=2, tensor=2)), lay_out(TASK, MeshConfig(devices=1))
    config = dataclasses.replace(MODEL, hidden_dropout=0.0, attention_dropout=0.0)
    task = PretrainObjective(config, LENGTH, PREDICTIONS)
    params = create(task, OPTIM.build(STEPS, abstract_params(task)), 3, one).params
    batch, step = mesh_equality.batch(), jnp.int32(0)
    alone = jax.jit(make_gradients(task, one))
    want, norms = None, []
    for rows in np.split(np.arange(16), 4):
        grads, _ = alone(params, step, {name: array[rows] for name, array in batch.items()})
        norms.append(float(optax.tree.norm(grads)))
        clipped = jax.tree.map(lambda grad, norm=norms[-1]: np.asarray(grad) * min(1.0, 3.0 / norm), grads)
        want = clipped if want is None else jax.tree.map(np.add, want, clipped)
    assert min(norms) < 3.0 < max(norms)  # some are clipped, some are not
    placed = jax.device_put(params, jax.tree.map(lambda _: layout.replicated, params))
    got, metrics = jax.jit(make_gradients(task, layout, replica_clip=3.0))(placed, step, layout.to_devices(batch))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), jax.device_get(got), want)
    _, whole = alone(params, step, batch)
    np.testing.assert_allclose(metrics["mlm_loss"], whole["mlm_loss"], rtol=1e-5)
    assert Lamb(clip_rule="replica").build(5, abstract_params(task)).init(params)["clip"] == optax.EmptyState()


# ---- checkpoints


TARGETS = {
    "8 x 1": on(data=8),
    "1 x 8": MeshConfig({"data": 1, "fsdp": 8}, replicate_below=0),
    "2 x 1": MeshConfig({"data": 2}, devices=2),
    "one device": MeshConfig(devices=1),
    "ZeRO-3 with tensor": on(data=2, fsdp=2, tensor=2),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A state written on (data 4, tensor 2), and its values."""
    workdir = tmp_path_factory.mktemp("mesh")
    optimizer = OPTIM.build(STEPS, abstract_params(TASK))
    state = create(TASK, optimizer, 5, lay_out(TASK, on(data=4, tensor=2)))
    checkpoints = Checkpoints(workdir, writing=True)
    checkpoints.save(state, {"data": {}})
    checkpoints.close()
    return workdir, jax.device_get(state)


@pytest.mark.parametrize("name", TARGETS)
def test_a_checkpoint_moves_to_another_mesh(written, name):
    workdir, values = written
    layout = lay_out(TASK, TARGETS[name])
    template = abstract_state(TASK, OPTIM.build(STEPS, abstract_params(TASK)), layout)
    found = open_for_reading(workdir).restore(0, template)
    jax.tree.map(np.testing.assert_array_equal, found, values)
    jax.tree.map(
        lambda x, want: x.sharding.is_equivalent_to(want.sharding, x.ndim) or pytest.fail(str(x)), found, template
    )
    kernel = found.params["albert"]["encoder"]["group_0"]["block_0"]["feed_forward"]["output"]["kernel"]
    divided = {"1 x 8": 8, "ZeRO-3 with tensor": 4}.get(name, 1)
    assert kernel.addressable_shards[0].data.size * divided == kernel.size


def test_a_checkpoint_is_read_as_numpy(written):
    workdir, values = written
    jax.tree.map(np.testing.assert_array_equal, open_for_reading(workdir).params(0), values.params)


# ---- placing


def test_every_size_divides_as_the_rules_say():
    layout = lay_out(FULL, MeshConfig({"data": 1, "fsdp": 4, "tensor": 2}))
    block = "albert/encoder/group_0/block_0"
    want = {
        "albert/embeddings/word": P("fsdp", None),
        "albert/embeddings/position": P(None, None),  # small: whole
        "albert/projection/kernel": P(None, None),
        f"{block}/attention/query/kernel": P("fsdp", "tensor"),
        f"{block}/attention/query/bias": P("tensor"),
        f"{block}/attention/output/kernel": P("tensor", "fsdp"),
        f"{block}/feed_forward/intermediate/kernel": P("fsdp", "tensor"),
        f"{block}/feed_forward/output/kernel": P("tensor", "fsdp"),
        f"{block}/feed_forward/output/bias": P(None),
        "albert/pooler/kernel": P("fsdp", None),
    }
    assert {path: layout.stored[path] for path in want} == want
    assert layout.divided == layout.stored
    state = abstract_state(FULL, OPTIM.build(STEPS, abstract_params(FULL)), layout)
    word = state.opt_state["moments"].mean["albert"]["embeddings"]["word"]
    assert word.sharding.shard_shape(word.shape) == (7500, 128)


def test_zero_1_divides_only_what_the_optimizer_holds():
    layout = lay_out(FULL, preset("zero1", fsdp=8))
    assert layout.stored["albert/embeddings/word"] == P(None, None)
    assert layout.divided["albert/embeddings/word"] == P("fsdp", None)
    state = abstract_state(FULL, OPTIM.build(STEPS, abstract_params(FULL)), layout)
    places = [x.sharding.shard_shape(x.shape)[0] for x in (
        state.params["albert"]["embeddings"]["word"], state.opt_state["moments"].square["albert"]["embeddings"]["word"],
    )]  # fmt: skip
    assert places == [30_000, 3_750]


def test_the_table_tells_bytes_a_device():
    layout = lay_out(FULL, preset("zero3", fsdp=8))
    table = {path: row for path, *row in layout.table()}
    assert len(table) == len(layout.shapes)
    assert table["albert/embeddings/word"] == ["30000x128", "fsdp, -", 3750 * 128 * 4, 2 * 3750 * 128 * 4]
    assert table["albert/pooler/bias"] == ["768", "whole", 768 * 4, 2 * 768 * 4]
    total = sum(math.prod(shape) for shape in layout.shapes.values())
    assert sum(row[2] for row in table.values()) < 4 * total / 6


def test_presets_are_what_they_are_called():
    assert preset("data") == MeshConfig({"data": -1, "fsdp": 1, "tensor": 1})
    assert preset("zero3", 4, 2).sizes(8) == {"slice": 1, "data": 1, "fsdp": 4, "tensor": 2}
    assert (preset("zero1", 2).zero, preset("zero3", 2).zero) == (1, 3)
    for name, words in (("zero2", "no mesh preset 'zero2'"), ("data", "divides nothing over fsdp")):
        with pytest.raises(AlbertError, match=words):
            preset(name, fsdp=2)


def test_minus_one_takes_what_is_left():
    assert MeshConfig({"data": -1, "fsdp": 2}).sizes(8) == {"slice": 1, "data": 4, "fsdp": 2, "tensor": 1}
    assert MeshConfig({"data": 4, "fsdp": -1}).sizes(8)["fsdp"] == 2
    assert MeshConfig().sizes(512, slices=2) == {"slice": 2, "data": 256, "fsdp": 1, "tensor": 1}
    assert tuple(MeshConfig().build().shape) == AXES


def test_a_dry_run_prints_a_line_for_each_parameter_and_writes_nothing(corpus, tmp_path, capsys):
    experiment = tiny.experiment(corpus, mesh=MeshConfig({"data": 4, "fsdp": 2}, replicate_below=1000))
    dry_run(experiment, tmp_path / "run")
    said = capsys.readouterr().out
    assert "8 examples (1 a device on 8 x cpu (data 4, fsdp 2), 1 micro-batches)" in said
    word = next(line.split() for line in said.splitlines() if "embeddings/word" in line)
    assert word == ["albert/embeddings/word", "300x16", "fsdp,", "-", f"{150 * 16 * 4:,}", f"{2 * 150 * 16 * 4:,}"]
    assert not (tmp_path / "run").exists()
    with pytest.raises(AlbertError, match="batch_size 12 does not divide"):
        dry_run(dataclasses.replace(experiment, batch_size=12), tmp_path / "run")


def test_the_command_line_takes_a_mesh():
    words = ["--mesh.shape", '{"data": 32, "fsdp": 8}', "--mesh.zero", "1", "--mesh.rules", '{"fsdp": ["vocab"]}']
    mesh = parse(Experiment, words, prog="albert_jax train", default=experiments.example()).mesh
    assert (mesh.shape, mesh.zero, mesh.rules) == ({"data": 32, "fsdp": 8}, 1, {"fsdp": ("vocab",)})
    with pytest.raises(AlbertError, match=r'expected \{"AXIS": SIZE'):
        parse(Experiment, ["--mesh.shape", '{"data": "8"}'], prog="albert_jax train", default=experiments.example())


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        (MeshConfig({"model": 2}), "names the axis 'model'; the axes are slice, data, fsdp, tensor"),
        (MeshConfig({"data": 0}), "'data' is 0; give at least 1, or -1"),
        (MeshConfig({"data": -1, "fsdp": -1}), "has -1 for data and fsdp; only one"),
        (MeshConfig({"data": 3}), 'mesh.shape {"data": 3} asks for 3 devices and there are 8'),
        (MeshConfig({"data": -1, "fsdp": 3}), "asks for a multiple of 3 devices and there are 8"),
        (MeshConfig(devices=9), "mesh.devices asks for 9 devices; there are 8"),
        (MeshConfig(rules={"data": ("vocab",)}), "mesh.rules has the axis 'data'; only 'fsdp' and 'tensor' divide"),
    ],
)
def test_a_mesh_that_cannot_be_is_named(mesh, words):
    with pytest.raises(AlbertError) as raised:
        lay_out(TASK, mesh)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"devices": -1}, "mesh.devices is -1; it must not be negative"),
        ({"replicate_below": -1}, "mesh.replicate_below is -1; it must not be negative"),
        ({"zero": 2}, "mesh.zero is 2; choose one of 1, 3"),
    ],
)
def test_numbers_out_of_range_are_named(fields, line):
    with pytest.raises(AlbertError, match=line):
        MeshConfig(**fields)


def test_what_does_not_divide_is_named_with_the_fix():
    odd = PretrainObjective(albert("tiny", vocab_size=1001, hidden_size=36, heads=3, embedding_size=15), 12, 4)
    with pytest.raises(AlbertError) as raised:
        lay_out(odd, MeshConfig({"fsdp": 8}, replicate_below=10_000))
    assert "albert/embeddings/word [1001, 15] does not divide over 'fsdp': vocab = 1001 and factor = 15" in str(
        raised.value
    )
    with pytest.raises(AlbertError, match="model.heads 3 does not divide over the 2 devices of 'tensor'"):
        lay_out(odd, MeshConfig({"data": 4, "tensor": 2}))
    both = MeshConfig({"fsdp": 2, "data": 2, "tensor": 2}, rules={"fsdp": ("heads",), "tensor": ("heads",)})
    with pytest.raises(
        AlbertError, match=r"puts both 'fsdp' and 'tensor' on the axis 'heads' of albert/encoder/.*bias"
    ):
        lay_out(TASK, dataclasses.replace(both, replicate_below=0))
    layout = lay_out(TASK, on(data=2, fsdp=4))
    with pytest.raises(
        AlbertError, match=r"batch_size 20 .* 8 parts \(data 2 x fsdp 4\) x 1 micro-batches; make it 16 or 24"
    ):
        layout.check_batch(20, 1)


def test_every_parameter_has_axes_of_its_rank():
    axes = logical_axes(FULL)
    layout = lay_out(FULL, MeshConfig())
    assert {path: len(names) for path, names in axes.items()} == {p: len(s) for p, s in layout.shapes.items()}
    # All but LayerNorms, segment table, and the two-way order head can be divided.
    whole = {path for path, names in axes.items() if not any(names)}
    assert {path for path in whole if path.endswith("kernel")} == {"order/kernel"}
