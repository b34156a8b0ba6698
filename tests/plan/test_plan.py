"""The planner against programs compiled for TPU slices that are not here, against its committed table, and against
arithmetic done by hand. Programs are compiled with the least effort, which changes none of what is asserted."""

import dataclasses
import json
import math
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from albert_jax import files
from albert_jax.__main__ import main
from albert_jax.cluster.devices import GIB, TPUS
from albert_jax.engine.sharding import MeshConfig
from albert_jax.errors import AlbertError
from albert_jax.experiment import load_config
from albert_jax.model.config import albert
from albert_jax.plan import report as plan_report
from albert_jax.plan.compile import Job, Memory, needed_bytes
from albert_jax.plan.hlo import Collective
from albert_jax.plan.roofline import network_seconds, plan_of, step_time
from albert_jax.plan.search import Variant, candidates, largest_batch, plan, remedies, search
from albert_jax.plan.topology import find_topology
from albert_jax.plan.workers import Compilers
from albert_jax.telemetry.throughput import train_flops_per_token
from benchmarks import plan_table
from tests import tiny

ROOT = Path(__file__).parents[2]
TINY = tiny.experiment(Path("nowhere"))  # plan opens no data


def of_tiny(**changes):
    return dataclasses.replace(TINY, mesh=MeshConfig(), **changes)


@pytest.fixture(scope="module")
def compilers():
    with Compilers(2) as running:
        yield running


@pytest.fixture(scope="module")
def recomputed(compilers):
    """Two rows of the table, compiled again."""
    rows = {(row["size"], row["topology"], row["slices"]): row for row in table()["rows"]}
    asked = [("base", "v5e-256", 1), ("base", "v5e-8", 1)]
    pending = []
    for place in asked:
        experiment = dataclasses.replace(plan_table.config(place[0]), micro_batches=rows[place]["micro_batches"])
        pending.append(compilers.submit(Job(experiment, place[1], place[2], quick=True)))
    return [(rows[place], future.result()) for place, future in zip(asked, pending, strict=True)]


def table():
    return json.loads(plan_table.TABLE.read_text())


# ---- the committed table


def test_table_holds_every_row_and_the_page_is_made_of_it():
    places = [(row["size"], row["topology"], row["slices"]) for row in table()["rows"]]
    assert places == [(size, *where) for size in plan_table.SIZES for where in plan_table.SLICES]
    assert plan_table.PAGE.read_text() == plan_table.render(table()), "run benchmarks/plan_table.py --render"
    for row in table()["rows"]:
        assert row["in_loops"] == 0, row
        assert row["memory_bytes"] <= row["limit_bytes"], row
        assert row["step_ms"] == pytest.approx(max(row["compute_ms"], row["memory_ms"]) + row["network_ms"]), row


def test_two_rows_come_out_again(recomputed):
    """When a newer libtpu or a change of the step moves them, make the table anew and say so in the commit."""
    for row, program in recomputed:
        found = json.loads(json.dumps(plan_table.facts(program)))
        assert {name: row[name] for name in found} == found
        assert program.fits and row["limit_bytes"] == program.limit
        assert program.memory.total == pytest.approx(row["memory_bytes"], rel=0.1)


def test_a_program_of_the_table_by_hand(recomputed):
    """Base, data parallel: one float32 gradient of 11.8 million numbers, and the losses."""
    _, program = recomputed[0]
    assert program.parameters == 11_813_810
    assert program.memory.params == 4 * program.parameters
    assert program.memory.moments == 8 * program.parameters + 12  # two moments; step, skipped and the schedule's count
    reduced = sum(each.executed * each.bytes for each in program.collectives)
    assert 4 * program.parameters <= reduced < 1.01 * 4 * program.parameters
    per_token = train_flops_per_token(albert("base"), 512, 77)
    assert program.model_flops == per_token * 4096 * 512
    assert 1.0 <= program.program_flops / program.model_flops < 1.05  # remat "dots" repeats attention's products
    assert [loop.trips for loop in program.loops] == [12, 12]


def test_two_slices_send_the_gradient_once_and_each_chip_its_part():
    for row in table()["rows"]:
        part = 4 * row["parameters"] / 256
        assert row["dcn_bytes"] == 0 if row["slices"] == 1 else part <= row["dcn_bytes"] < 2.5 * part, row


# ---- small programs


@pytest.fixture(scope="module")
def tiny_plan(compilers):
    program = compilers.submit(Job(of_tiny(), "v5e-4", quick=True)).result()
    made = plan_of(of_tiny(), program, find_topology("v5e-4"))
    return dataclasses.replace(made, largest=program)


OWN = """
import dataclasses
from dataclasses import dataclass

import optax

from albert_jax.optim import Optimizer
from albert_jax.tasks import Pretrain
from tests.plan.test_plan import TINY, of_tiny


@dataclass(frozen=True)
class Halves(Pretrain):
    def objective(self, config):
        return super().objective(dataclasses.replace(config, layers=1))


@dataclass(frozen=True)
class Sign(Optimizer):
    def build(self, total_steps, params):
        return self.chain(total_steps, params, sign=optax.scale_by_sign())


def experiment():
    task = Halves(**{field.name: getattr(TINY.task, field.name) for field in dataclasses.fields(TINY.task)})
    return of_tiny(task=task, optim=Sign())
"""


def test_a_task_and_an_optimizer_of_one_s_own_are_compiled_too(compilers, tmp_path):
    """In a process that has to be given the config file: the model of the task, and no moments of the optimizer."""
    (tmp_path / "own.py").write_text(OWN)
    program = compilers.submit(Job(load_config(tmp_path / "own.py"), "v5e-1", quick=True)).result()
    assert [loop.trips for loop in program.loops] in ([], [1, 1])
    assert program.memory.moments == 12  # step, skipped and the schedule's count


def test_json_there_and_back(tiny_plan, compilers, tmp_path):
    path = tmp_path / "plan.json"
    full = dataclasses.replace(
        tiny_plan,
        remedies=(Variant("--x 1", tiny_plan.program, 0.5),),
        found=(Variant("--y 2", tiny_plan.program, 1.5),),
    )
    files.write_json(path, plan_report.to_json(full, compilers.known))
    assert json.loads(path.read_text())["plan"] == json.loads(json.dumps(dataclasses.asdict(full)))
    assert plan_report.read_programs(path) == compilers.known
    path.write_text("{}")
    with pytest.raises(AlbertError, match="is no plan of this version"):
        plan_report.read_programs(path)


def test_a_known_program_is_not_compiled_again(compilers, tiny_plan):
    key = tiny_plan.program.key
    compilers.known[key] = dataclasses.replace(tiny_plan.program, seconds=-1.0)
    assert compilers.submit(Job(of_tiny(), "v5e-4", quick=True)).result().seconds == -1.0
    changed = of_tiny(model=dataclasses.replace(TINY.model, layers=1))
    assert compilers.submit(Job(changed, "v5e-4", quick=True)).result().key != key


def test_what_follows_from_a_plan(tiny_plan):
    time, program = tiny_plan.time, tiny_plan.program
    assert time.total == max(time.compute, time.memory) + time.network
    assert tiny_plan.peak == 4 * 197e12
    assert tiny_plan.mfu == pytest.approx(program.model_flops / time.total / (4 * 197e12))
    assert tiny_plan.hours == pytest.approx(12 * time.total / 3600)
    assert tiny_plan.network_bytes == (sum(each.bytes for each in program.collectives), 0)
    assert program.assumed_vocabulary and program.vocab_size == 30_000
    assert 1.0 <= program.program_flops / program.model_flops < 1.01  # of all devices; the order head is not counted


def test_report_and_picture(tiny_plan, tmp_path, capsys):
    plan_report.show(tiny_plan, with_params=True)
    printed = capsys.readouterr().out
    assert "tiny on v5e-4: fits" in printed and "vocabulary assumed: 30,000 pieces" in printed
    for figure in ("all-reduce", "MFU ceiling", "compute, ms", "memory traffic, ms", "network, ms", "chip-hours",
                   "largest batch that fits", "albert/embeddings/word"):  # fmt: skip
        assert figure in printed, figure
    plan_report.draw(tiny_plan, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_the_devices_here():
    made = plan(of_tiny())
    assert made.topology == "here" and made.time.memory == made.time.network == 0.0
    assert made.peak > 0 and made.program.limit == 0


# ---- what fits


class Linear:
    """A compiler whose programs take `fixed` + `slope` bytes a row of a micro-batch, a tenth of that with full remat,
    and fit up to `limit`."""

    def __init__(self, template, fixed, slope, limit):
        self.template, self.fixed, self.slope, self.limit, self.asked = template, fixed, slope, limit, []

    def __call__(self, job):
        experiment, made = job.experiment, Future()
        rows = experiment.batch_size // self.template.row_groups // experiment.micro_batches
        self.asked.append(rows)
        slope = self.slope * (0.1 if experiment.model.remat == "full" else 1)
        total = int(self.fixed + slope * rows * (1 + 1e-5 * rows))  # not quite a line
        made.set_result(
            dataclasses.replace(
                self.template, batch_size=experiment.batch_size, micro_batches=experiment.micro_batches,
                remat=experiment.model.remat, memory=Memory(0, 0, 0, self.fixed, total), limit=self.limit,
                fits=total <= self.limit, parameters=0,
            )
        )  # fmt: skip
        return made


@pytest.mark.parametrize(("slope", "limit"), [(10, 1000), (1, 1000), (300, 1000), (7, 12345)])
def test_largest_batch_is_found_in_few_compilations(tiny_plan, slope, limit):
    """The last row that fits, by search over all."""
    submit = Linear(tiny_plan.program, 100, slope, limit)
    found, exact = largest_batch(submit, Job(of_tiny(), "v5e-4"))
    best = max(rows for rows in range(1, 20_000) if int(100 + slope * rows * (1 + 1e-5 * rows)) <= limit)
    assert (found.rows, exact) == (best, True)
    assert len(submit.asked) <= 5


def test_largest_batch_out_of_time_or_of_room(tiny_plan):
    submit = Linear(tiny_plan.program, 100, 10, 1000)
    found, exact = largest_batch(submit, Job(of_tiny(), "v5e-4"), until=0.0)
    assert (found.rows, exact, submit.asked) == (2, False, [2])
    assert largest_batch(Linear(tiny_plan.program, 2000, 1, 1000), Job(of_tiny(), "v5e-4")) == (None, True)


def test_remedies_are_what_fits_fastest_first(tiny_plan):
    """64 rows a device, of which 5 fit: 16 micro-batches; with full remat two; "dots" helps no memory here."""
    job = Job(of_tiny(batch_size=256), "v5e-4")
    submit = Linear(tiny_plan.program, 0, 100, 599)
    program = submit(job).result()
    assert not program.fits
    largest, _ = largest_batch(submit, job)
    assert largest.rows == 5
    cost = {"none": 1.0, "dots": 2.0, "full": 4.0}
    found = remedies(submit, job, program, largest, lambda made: cost[made.remat] + 0.1 * made.micro_batches)
    assert [each.flags for each in found][:2] == ["--micro-batches 16", "--model.attention splash --micro-batches 16"]
    assert {"--model.remat dots --micro-batches 16", "--model.remat full --micro-batches 2"} <= {e.flags for e in found}
    assert all(each.program.fits for each in found)


def test_a_program_that_does_not_fit_is_measured(compilers):
    """Half a million examples on one chip: the line says by how much, and a smaller batch where no remedy was found."""
    experiment = of_tiny(batch_size=2**19)
    program = compilers.submit(Job(experiment, "v5e-1", quick=True)).result()
    assert not program.fits and program.memory.total > program.limit == 15.75 * GIB and program.collectives == ()
    made = plan_of(experiment, program, find_topology("v5e-1"))
    assert made.time is None and made.mfu is None
    over = (program.memory.total - program.limit) / GIB
    line = plan_report.does_not_fit(dataclasses.replace(made, remedies=(Variant("--micro-batches 64", program, 0.25),)))
    assert line.startswith(
        f"tiny does not fit on v5e-1: it needs {program.memory.total / GIB:,.2f} GiB a device, {over:,.2f}"
    )
    assert f"--micro-batches 64 ({program.memory.total / GIB:,.2f} GiB, step 250 ms)" in line
    assert "\n" not in line


@pytest.mark.slow
def test_a_program_that_does_not_fit_through_the_command_line(capsys, tmp_path):
    words = ["--config", str(config_file(tmp_path)), "--topology", "v5e-1", "--batch-size", "524288"]
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "tiny does not fit on v5e-1: it needs" in error and "GiB more than there is; cheapest remedies: --" in error
    assert "--micro-batches" in error


def config_file(directory):
    path = directory / "tiny_config.py"
    path.write_text("from tests.plan.test_plan import of_tiny\n\n\ndef experiment():\n    return of_tiny()\n")
    return path


def test_what_the_compiler_says_of_too_much_memory():
    said = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (20.89G) exceeds"
    )
    assert needed_bytes(said) == int(20.89 * GIB)
    said = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 900.5M of 15.75G hbm. Exceeded"
    assert needed_bytes(said) == int(900.5 * 2**20)
    assert needed_bytes("RESOURCE_EXHAUSTED: no") == 0


def test_candidates_name_themselves_and_differ():
    found = dict(candidates(of_tiny(), 16, 1))
    assert len(found) == 3 * 4  # data (as configured), zero1, zero3, tensor 2; three kinds of remat each
    assert len({json.dumps([e.mesh.sizes(16), e.mesh.zero, e.model.remat]) for e in found.values()}) == len(found)
    assert found['--mesh.shape \'{"data": -1, "tensor": 2}\' --model.remat full'].model.remat == "full"


def test_search_finds_the_fastest_that_fits(tiny_plan):
    """Four rows a device, of which three fit: two micro-batches, but for full remat."""
    cost = {"none": 1.0, "dots": 2.0, "full": 4.0}
    submit, told = Linear(tiny_plan.program, 0, 100, 300), []
    seconds = lambda made: cost[made.remat]  # noqa: E731
    found = search(submit, Job(of_tiny(batch_size=16), "v5e-4"), 4, 100, seconds, lambda done, what: told.append(done))
    assert [each.seconds for each in found] == sorted(each.seconds for each in found)
    assert {(each.program.remat, each.program.micro_batches) for each in found} == {
        ("none", 2),
        ("dots", 2),
        ("full", 1),
    }
    assert found[0].flags.endswith("--model.remat none --micro-batches 2")
    limited = search(submit, Job(of_tiny(batch_size=16), "v5e-4"), 4, 5, seconds, lambda done, what: told.append(done))
    assert len(limited) <= 5 and told[-1] == 5


# ---- the roofline by hand


def collective(kind, size, group, **changes):
    return dataclasses.replace(Collective(kind, "c", size, "f32", group, 1, 0, "", False), **changes)


def test_network_time_by_hand():
    """v5e 16x16: both rings, 200 GB/s; 8 + 8 hops. A row of 16: one ring. Four chips of it: half a line."""
    chip, plane, rings = TPUS["v5e"], (16, 16), (True, True)
    whole = network_seconds([collective("all-gather", 2 * 10**9, 256)], chip, plane, rings)
    assert whole == (pytest.approx(16e-6 + 2e9 * 255 / 256 / 2e11), 0.0)
    reduced = network_seconds([collective("all-reduce", 2 * 10**9, 256)], chip, plane, rings)
    assert reduced[0] == pytest.approx(2 * whole[0])
    row = network_seconds([collective("reduce-scatter", 10**9, 16)], chip, plane, rings)[0]
    assert row == pytest.approx(8e-6 + 1e9 * 15 / 16 / 1e11)
    part = network_seconds([collective("all-gather", 10**9, 4)], chip, plane, rings)[0]
    assert part == pytest.approx(3e-6 + 1e9 * 3 / 4 / 5e10)
    assert network_seconds([collective("all-reduce", 10**9, 1)], chip, plane, rings) == (0.0, 0.0)
    looped = network_seconds([collective("all-gather", 10**9, 4, executed=12)], chip, plane, rings)[0]
    assert looped == pytest.approx(12 * part)


def test_slices_share_their_hosts_network():
    """A chip of v5e has an eighth of its host's 25 GB/s; two slices exchange the whole, four 1.5 times of it."""
    sent = [collective("send", 10**9, 0, dcn=True)]
    assert network_seconds(sent, TPUS["v5e"], (16, 16), (True, True), 2) == (0.0, pytest.approx(1e9 / 3.125e9))
    assert network_seconds(sent, TPUS["v5e"], (16, 16), (True, True), 4)[1] == pytest.approx(1.5e9 / 3.125e9)


def test_step_time_by_hand():
    time = step_time(197e12, 819e9 / 2, 0.25, TPUS["v5e"])
    assert (time.compute, time.memory, time.total, time.bound) == (1.0, 0.5, 1.25, "compute")
    core = step_time(123e12, 0.0, 0.0, TPUS["v3"])  # a device is half a chip
    assert core.compute == 2.0 and math.isclose(core.total, 2.0)


# ---- bad input


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--topology", "v5e-255"], "error: there is no TPU slice 'v5e-255'; nearest: v5e-256, v5e-128"),
        (["--slices", "2"], "error: --slices 2 needs a --topology"),
        (["--topology", "v5e-8", "--batch-size", "12"], "error: batch_size 12 does not divide over 8"),
        (["--topology", "v5e-8", "--json", "gone/plan.json"], "error: --json gone/plan.json: its directory"),
    ],
)
def test_bad_input_is_one_line(words, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["plan", "--config", str(config_file(tmp_path)), *words]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1, error


def test_plan_needs_a_config_and_pretraining(capsys):
    assert main(["plan", "--topology", "v5e-8"]) == 2
    assert "plan needs --config" in capsys.readouterr().err
    assert main(["plan", "--config", str(ROOT / "configs" / "demo_classify.py"), "--topology", "v5e-8"]) == 2
    assert "plan knows pretraining only" in capsys.readouterr().err


def test_without_libtpu_a_line_says_what_to_install(tmp_path):
    """In a process where it cannot be imported."""
    hidden = tmp_path / "libtpu.py"
    hidden.write_text("raise ImportError('no libtpu here')\n")
    words = ["plan", "--config", str(config_file(tmp_path)), "--topology", "v5e-8"]
    done = subprocess.run(
        [sys.executable, "-m", "albert_jax", *words], cwd=ROOT, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{ROOT}", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: compiling for a TPU needs libtpu, which runs on any Linux CPU: " \
        "pip install -e '.[tpu]'\n"  # fmt: skip
