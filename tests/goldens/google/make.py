"""Runs the original ALBERT and stores what it computes. Needs Python 3.7 and an environment of its own:

    python3.7 -m venv /tmp/tf1
    /tmp/tf1/bin/pip install tensorflow==1.15.5 tensorflow-hub==0.7.0 albert-tensorflow==1.1 sentencepiece==0.2.0 \\
        "protobuf<3.21" "numpy<1.19"
    /tmp/tf1/bin/python tests/goldens/google/make.py

It writes beside itself: `parity_*.npz` (activations, losses, gradients), `optimizers.npz` and `training.npz`
(trajectories), and checkpoints as TensorFlow writes them. `python tests/goldens/google/make.py written` instead
restores in TensorFlow the checkpoint that `tests/goldens/google/write.py` wrote with our code, and stores its
checksums.
"""

import hashlib
import json
import os
import shutil
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from tensorflow.python.ops import gen_io_ops

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import draw  # noqa: E402
from albert import modeling, optimization, run_pretraining  # noqa: E402

tf.logging.set_verbosity(tf.logging.ERROR)


def variables():
    return {variable.op.name: variable for variable in tf.trainable_variables()}


def fill(session, values):
    """Sets every trainable variable from its name and shape."""
    session.run(tf.global_variables_initializer())
    for name, variable in variables().items():
        variable.load(values(name, variable.shape.as_list()), session)


def pretraining(case):
    """The original's graph for a case: placeholders, outputs, losses."""
    config = modeling.AlbertConfig.from_dict(draw.config(case))
    feeds = {name: tf.placeholder(x.dtype, x.shape, name) for name, x in draw.batch(case).items()}
    model = modeling.AlbertModel(
        config, False, feeds["input_ids"], feeds["input_mask"], feeds["segment_ids"], use_one_hot_embeddings=True
    )
    mlm_loss, _, mlm_log_probs = run_pretraining.get_masked_lm_output(
        config, model.get_sequence_output(), model.get_embedding_table(), feeds["masked_lm_positions"],
        feeds["masked_lm_ids"], feeds["masked_lm_weights"],
    )  # fmt: skip
    order_loss, _, order_log_probs = run_pretraining.get_sentence_order_output(
        config, model.get_pooled_output(), feeds["next_sentence_labels"]
    )
    layers = model.get_all_encoder_layers()[config.inner_group_num - 1 :: config.inner_group_num]
    outputs = {
        "hidden": tf.stack(layers),
        "pooled": model.get_pooled_output(),
        "mlm_log_probs": tf.reshape(mlm_log_probs, [draw.B, draw.P, config.vocab_size]),
        "order_log_probs": order_log_probs,
        "mlm_loss": mlm_loss,
        "order_loss": order_loss,
    }
    return feeds, outputs, mlm_loss + order_loss


def joined(values):
    """All of them in one vector, in the order of the names: a member of an archive costs more than a small array."""
    return np.concatenate([values[name].reshape(-1) for name in sorted(values)])


def bound(feeds, batch):
    return {feeds[name]: batch[name] for name in feeds}


def parity(case):
    with tf.Graph().as_default(), tf.Session() as session:
        feeds, outputs, loss = pretraining(case)
        names = sorted(variables())
        slopes = tf.gradients(loss, [variables()[name] for name in names])
        grads = {name: tf.convert_to_tensor(slopes[number]) for number, name in enumerate(names)}
        fill(session, lambda name, shape: draw.weight(case, name, shape))
        found, grads = session.run([outputs, grads], bound(feeds, draw.batch(case)))
        np.savez_compressed(os.path.join(HERE, "parity_" + case + ".npz"), gradients=joined(grads), **found)


def train_step(session, train, feeds):
    """One step: first all assignments to parameters and moments, then the one to the step. In the original's one
    operation nothing orders the latter after the learning rate's reading of the step, so that on a CPU some steps take
    the rate of the next.
    """
    (update,) = [op for op in train.control_inputs if op.type == "NoOp"]
    (count,) = [op for op in train.control_inputs if op.type != "NoOp"]
    session.run(update, feeds)
    session.run(count)


def optimizers():
    """Parameters under gradients drawn without a model: nothing but the optimizer can differ."""
    stored = {}
    for kind in ("lamb", "adamw"):
        with tf.Graph().as_default(), tf.Session() as session:
            pretraining("tiny")
            tensors = variables()
            grads = {name: tf.placeholder(tf.float32, v.shape) for name, v in tensors.items()}
            loss = tf.add_n([tf.reduce_sum(grads[name] * v) for name, v in tensors.items()])
            train = optimization.create_optimizer(loss, draw.PEAK[kind], draw.STEPS, draw.WARMUP, False, kind)
            fill(session, draw.start)
            for step in range(draw.STEPS):
                slopes = {p: draw.gradient(name, p.shape.as_list(), step) for name, p in grads.items()}
                train_step(session, train, slopes)
                if step + 1 in draw.KEPT:
                    stored[kind + "/" + str(step + 1)] = joined(session.run(tensors))
    np.savez_compressed(os.path.join(HERE, "optimizers.npz"), **stored)


def training():
    """Real training: the model's own gradients, a new batch at each step."""
    with tf.Graph().as_default(), tf.Session() as session:
        feeds, _, loss = pretraining(draw.TRAINED)
        train = optimization.create_optimizer(loss, draw.TRAINING_PEAK, draw.STEPS, draw.WARMUP, False, "lamb")
        fill(session, lambda name, shape: draw.weight(draw.TRAINED, name, shape))
        losses = []
        for step in range(draw.STEPS):
            batch = bound(feeds, draw.batch(draw.TRAINED, step))
            losses.append(session.run(loss, batch))  # in a run of its own, before the assignments
            train_step(session, train, batch)
        path = os.path.join(HERE, "training.npz")
        np.savez_compressed(path, losses=np.array(losses, np.float32), parameters=joined(session.run(variables())))


# ---- checkpoints in the real file formats


def fresh(name):
    path = os.path.join(HERE, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def write_config(directory, case):
    with open(os.path.join(directory, "albert_config.json"), "w") as file:
        json.dump(draw.config(case), file, indent=2, sort_keys=True)
        file.write("\n")


def trained_checkpoint():
    """What a pretraining run leaves: all variables, moments and step, in one file; the same, cut into three shards."""
    directory = fresh("trained")
    with tf.Graph().as_default(), tf.Session() as session:
        feeds, _, loss = pretraining("one_group")
        train = optimization.create_optimizer(loss, 1e-3, 10, 0, False, "lamb")
        fill(session, lambda name, shape: draw.weight("one_group", name, shape))
        train_step(session, train, bound(feeds, draw.batch("one_group")))
        fill_again = {name: draw.weight("one_group", name, v.shape.as_list()) for name, v in variables().items()}
        for name, variable in variables().items():
            variable.load(fill_again[name], session)
        saver = tf.train.Saver()
        saver.save(session, os.path.join(directory, "model.ckpt-best"), write_meta_graph=False, write_state=False)
        sharded = fresh("sharded")
        names = sorted(v.op.name for v in tf.global_variables())
        tensors = {v.op.name: v.read_value() for v in tf.global_variables()}
        parts = [os.path.join(sharded, "part" + str(number)) for number in range(3)]
        for number, part in enumerate(parts):
            mine = names[number::3]
            session.run(gen_io_ops.save_v2(part, mine, [""] * len(mine), [tensors[name] for name in mine]))
        session.run(gen_io_ops.merge_v2_checkpoints(parts, os.path.join(sharded, "model.ckpt-1")))
    for path in (directory, sharded):
        write_config(path, "one_group")


def classifier_checkpoint():
    """What `run_classifier.py` leaves: the encoder and a bare output_weights, output_bias."""
    directory = fresh("classifier")
    with tf.Graph().as_default(), tf.Session() as session:
        config = modeling.AlbertConfig.from_dict(draw.config("tiny"))
        modeling.AlbertModel(config, False, tf.zeros([1, 4], tf.int32))
        tf.get_variable("output_weights", [3, config.hidden_size])
        tf.get_variable("output_bias", [3])
        fill(session, lambda name, shape: draw.weight("tiny", name, shape))
        saver = tf.train.Saver()
        saver.save(session, os.path.join(directory, "model.ckpt-7"), write_meta_graph=False, write_state=False)
        saver.save(session, os.path.join(directory, "model.ckpt-9"), write_meta_graph=False, write_state=False)
        tf.train.update_checkpoint_state(directory, "model.ckpt-9")
    write_config(directory, "tiny")


def hub_module():
    """A module of TF-Hub, and a checkpoint of a graph that a module was loaded into ("module/...")."""

    def module_fn():
        config = modeling.AlbertConfig.from_dict(draw.config("tiny"))
        ids = tf.placeholder(tf.int32, [None, None], "input_ids")
        model = modeling.AlbertModel(config, False, ids)
        hub.add_signature(
            name="tokens",
            inputs={"input_ids": ids},
            outputs={"sequence_output": model.get_sequence_output(), "pooled_output": model.get_pooled_output()},
        )

    path = os.path.join(HERE, "hub_module")
    shutil.rmtree(path, ignore_errors=True)
    with tf.Graph().as_default(), tf.Session() as session:
        module = hub.Module(hub.create_module_spec(module_fn), trainable=True)
        fill(session, lambda name, shape: draw.weight("tiny", name.replace("module/", "", 1), shape))
        module.export(path, session)
        prefixed = fresh("prefixed")
        saver = tf.train.Saver(tf.trainable_variables())
        saver.save(session, os.path.join(prefixed, "model.ckpt-0"), write_meta_graph=False, write_state=False)
    open(os.path.join(path, "saved_model.pb"), "wb").close()  # a graph of 280 KB that nothing here reads
    os.makedirs(os.path.join(path, "assets"), exist_ok=True)
    write_config(os.path.join(path, "assets"), "tiny")
    write_config(prefixed, "tiny")


def many_variables():
    """The checksum of an index of several blocks."""
    names, prefix = draw.many_names(), os.path.join(fresh("many"), "x")
    with tf.Graph().as_default(), tf.Session() as session:
        values = [tf.placeholder(tf.float32, []) for _ in names]
        save = gen_io_ops.save_v2(prefix, names, [""] * len(names), values)
        session.run(save, {value: number for number, value in enumerate(values)})
    with open(prefix + ".index", "rb") as file, open(os.path.join(HERE, "many.sha256"), "w") as sums:
        sums.write(hashlib.sha256(file.read()).hexdigest() + "\n")
    shutil.rmtree(os.path.dirname(prefix))


def written():
    """Restores what our code wrote, through the Saver, into the original's graph; stores the files' checksums."""
    prefix = os.path.join(HERE, "written", "model.ckpt-best")
    with tf.Graph().as_default(), tf.Session() as session:
        pretraining("groups")
        tf.train.Saver().restore(session, prefix)
        for name, value in session.run(variables()).items():
            assert np.array_equal(value, draw.weight("groups", name, value.shape)), name
        assert len(tf.train.list_variables(prefix)) == len(variables())
        print("TensorFlow", tf.__version__, "restored", len(variables()), "variables")
    sums = {"tensorflow": tf.__version__}
    for ending in ("index", "data-00000-of-00001"):
        with open(prefix + "." + ending, "rb") as file:
            sums[ending] = hashlib.sha256(file.read()).hexdigest()
    with open(os.path.join(HERE, "written.json"), "w") as file:
        json.dump(sums, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["written"]:
        written()
    else:
        for case in sorted(draw.CASES):
            parity(case)
        optimizers()
        training()
        trained_checkpoint()
        classifier_checkpoint()
        hub_module()
        many_variables()
