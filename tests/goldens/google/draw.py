"""What the goldens are computed from: configurations, weights, batches and gradients, drawn alike by the script that
runs the original (Python 3.7) and by the tests. `RandomState` streams are frozen, so none of it has to be stored.

Where a LayerNorm or a GELU happens to sit in its tail, float32 alone passes the tests' tolerances: the original scales
before it subtracts in the one, and has 1 + tanh(-4) in the other. The cases are free of such places.
"""

import zlib

import numpy as np

# Google's fields; those missing are the DEFAULTS. Beside them: B, S, P of the batch, and the deviation of kernels.
DEFAULTS = dict(
    vocab_size=48,
    embedding_size=8,
    hidden_size=16,
    num_attention_heads=4,
    intermediate_size=32,
    num_hidden_layers=3,
    num_hidden_groups=1,
    inner_group_num=1,
    max_position_embeddings=14,
    type_vocab_size=2,
    hidden_act="gelu",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    initializer_range=0.02,
)
CASES = {
    "one_group": {},
    "groups": dict(num_hidden_layers=6, num_hidden_groups=3),
    "uneven_groups": dict(num_hidden_layers=7, num_hidden_groups=3),
    "inner_groups": dict(num_hidden_layers=3, num_hidden_groups=2, inner_group_num=2),
    "e_equals_d": dict(embedding_size=16, num_attention_heads=2),
    "deep": dict(num_hidden_layers=24),
    "relu": dict(hidden_act="relu", hidden_size=24, num_attention_heads=3),
    "tiny": dict(vocab_size=9, embedding_size=4, hidden_size=6, num_attention_heads=1, intermediate_size=6,
                 num_hidden_layers=2, max_position_embeddings=7),
    "wide": dict(embedding_size=16, hidden_size=32, num_attention_heads=2, intermediate_size=128),
}  # fmt: skip
DEVIATION = 0.3  # of kernels: fifteen times that of fresh ones; much more, and rounding alone passes the tolerance
BIAS = {"deep": 0.05}  # else 0.3: the same bias added 48 times would leave nothing of the input, and no gradient
B, P = 4, 3


def config(case):
    """Fields of the case's albert_config.json."""
    return dict(DEFAULTS, **CASES[case])


def seed(*words):
    return zlib.crc32("/".join(words).encode())


def weight(case, name, shape):
    """A variable's value by its name in the original: kernels and tables far from small, scales around one, biases not
    zero."""
    random = np.random.RandomState(seed(case, name))
    values = random.standard_normal(tuple(shape))
    if name.endswith("gamma"):
        values = 1 + 0.3 * values
    elif name.endswith(("bias", "beta")):
        values = BIAS.get(case, 0.3) * values
    elif "embeddings" in name:
        values = 0.7 * values
    else:
        values = DEVIATION * values
    return values.astype(np.float32)


def batch(case, step=0):
    """One batch of the case: rows of all lengths, the second one piece long, padded; slots of the MLM head not all
    used, padded ones at position 0 as the original has them."""
    fields = config(case)
    V, S = fields["vocab_size"], fields["max_position_embeddings"] - 2
    random = np.random.RandomState(seed(case, "batch", str(step)))
    lengths = np.array([S, 1, S // 2, S - 1])
    mask = (np.arange(S) < lengths[:, None]).astype(np.int32)
    ids = random.randint(0, V, (B, S)).astype(np.int32)  # padding holds pieces too: the mask alone must hide it
    segments = (np.arange(S) >= (lengths // 2)[:, None]).astype(np.int32)
    used = np.array([P, 1, 2, P])
    weights = (np.arange(P) < used[:, None]).astype(np.float32)
    positions = np.sort(random.randint(0, lengths[:, None], (B, P)), axis=1).astype(np.int32)
    labels = random.randint(0, V, (B, P)).astype(np.int32)
    return {
        "input_ids": ids,
        "input_mask": mask,
        "segment_ids": segments,
        "masked_lm_positions": positions * weights.astype(np.int32),
        "masked_lm_ids": labels * weights.astype(np.int32),
        "masked_lm_weights": weights,
        "next_sentence_labels": random.randint(0, 2, (B, 1)).astype(np.int32),
    }


# ---- optimizers: gradients drawn without a model, for the variables of "tiny"

STEPS, WARMUP = 50, 10
KEPT = (1, 2, 11, 25, 50)  # steps after which the parameters are stored
PEAK = {"lamb": 0.02, "adamw": 0.01}
TRAINED, TRAINING_PEAK = "tiny", 0.002  # real training with LAMB


def start(name, shape):
    """A variable at step 0; one kernel is zero, where the trust ratio has to be one."""
    if name == "bert/pooler/dense/kernel":
        return np.zeros(tuple(shape), np.float32)
    return weight("tiny", name, shape)


def gradient(name, shape, step):
    """A variable's gradient at 0-based `step`: below the clipping norm at first, far above it later."""
    random = np.random.RandomState(seed("gradient", name, str(step)))
    return (10.0 ** (step / 12.0 - 3.0) * random.standard_normal(tuple(shape))).astype(np.float32)


def many_names():
    """Names of so many variables that an index of them has several blocks, sorted."""
    random = np.random.RandomState(seed("many"))
    stems = ["".join(chr(97 + c) for c in random.randint(0, 3, random.randint(1, 14))) for _ in range(2500)]
    return sorted({stem + "/kernel" + "x" * random.randint(0, 300) for stem in stems})
