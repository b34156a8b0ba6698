"""Initial values with what is known before training: which pieces occur and beside which, and that what stands near a
masked piece tells most about it. Only values differ from a plain ALBERT; shape and computation do not, so that Google's
and Hugging Face's code read the trained model as any other.

A randomly drawn ALBERT first learns the frequencies of pieces, then for most of a small run's time what each piece
means, and only then where to look (benchmarks/learning.py has rows with and without). Here

- the bias of the masked-language head is the logarithm of the pieces' frequencies;
- the word table has vectors from co-occurrence (`albert_jax/data/store/cooccurrence.py`);
- the first columns of E are kept for positions, as sines and cosines, the rest for pieces;
- the projection E -> D keeps angles, and the head's dense layer D -> E is its transpose;
- values pass the attention as they are, and half of the heads look one or two places left or right: with positions as
  pairs (sin, cos) of a frequency, a query turned by its angle is largest at that distance.

The idea of initial weights with the structure of trained ones is that of Trockman & Kolter 2023,
"Mimetic Initialization of Self-Attention Layers".
"""

import numpy as np

from albert_jax.model.config import AlbertConfig

# Found by trials of 100 s each with the model in the box (D 256, 4 layers, 16,000 pieces; docs/learning.md).
_TABLE = 0.2  # root mean square of the word table: large beside one step of Adam, which would blur a smaller one
_HEAD = 0.3  # scale of the head's LayerNorm, so that logits of such a table are of the order of 1
_POSITION = 0.5  # amplitude of a sine in the position table
_PROJECTION = 0.7  # factor of the orthogonal projection
_INVERSE = 0.1  # of its transpose: small, so that GELU is nearly linear there; the LayerNorm behind restores the size
_THROUGH = 0.7  # factor of the identity in value and output kernels
_SHARPNESS = 0.7  # factor of positions in query and key kernels


def initial_values(
    config: AlbertConfig, vectors_VxW: np.ndarray, counts_V: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Path -> float32 array of the parameters of `AlbertForPretraining` that get values of their own; all others stay
    as drawn.

    `vectors_VxW` has one vector for each piece, the most important direction first, W >= `word_columns(config)`;
    `counts_V` is how often each piece occurs. What the vectors leave open is drawn from `seed`.
    """
    random = np.random.default_rng(seed)
    E, D, rest = config.embedding_size, config.hidden_size, config.initializer_range
    words, frequencies = word_columns(config), _frequencies(config)
    positions = 2 * len(frequencies)

    def drawn(*shape: int) -> np.ndarray:
        return random.standard_normal(shape) * rest

    table = drawn(config.vocab_size, E) * (_TABLE / rest if rest else 1)
    known = vectors_VxW.any(axis=1)
    # Half the range of lengths: those of rare pieces are short, and their logits would not leave the bias.
    length = np.linalg.norm(vectors_VxW[:, :words], axis=1, keepdims=True)
    vectors_VxW = vectors_VxW / np.sqrt(np.maximum(length, 1e-12))
    # Turned at random within the columns of pieces, so that none of them has all of a strong direction.
    turned = vectors_VxW[:, :words] @ _orthogonal(random, words, words)
    turned *= _TABLE / max(np.sqrt((turned[known] ** 2).mean()) if known.any() else 1.0, 1e-12)
    table[known] = np.concatenate([np.zeros((int(known.sum()), positions)), turned[known]], axis=1)

    angles = np.arange(config.max_positions)[:, None] * frequencies
    place = drawn(config.max_positions, E) * (_TABLE / 2 / rest if rest else 1)
    place[:, :positions] = _POSITION * np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    along_ExD = _orthogonal(random, E, D)  # without a projection E equals D, and the columns stay where they are
    values = {
        "albert/embeddings/word": table,
        "albert/embeddings/segment": drawn(config.segment_types, E) * (_TABLE / 2 / rest if rest else 1),
        "albert/embeddings/position": place,
        "mlm/bias": np.log((counts_V + 1) / (counts_V + 1).sum()),
        "mlm/layer_norm/scale": np.full(E, _HEAD),
    }
    if E != D:
        values["albert/projection/kernel"] = drawn(E, D) + _PROJECTION * np.sqrt(max(D / E, 1)) * along_ExD
    else:
        along_ExD = np.eye(E)
    values["mlm/dense/kernel"] = drawn(D, E) * _INVERSE + _INVERSE * along_ExD.T
    for group in range(config.groups):
        for inner in range(config.inner_groups):
            kernels = _attention(config, along_ExD[:positions].T, frequencies)
            for name, kernel in kernels.items():
                path = f"albert/encoder/group_{group}/block_{inner}/attention/{name}/kernel"
                values[path] = drawn(D, D) + kernel
    return {path: value.astype(np.float32) for path, value in values.items()}


def word_columns(config: AlbertConfig) -> int:
    """Columns of the word table that are for pieces, not positions."""
    return config.embedding_size - 2 * len(_frequencies(config))


def _frequencies(config: AlbertConfig) -> np.ndarray:
    """Angles by which neighbouring positions differ, as many as a quarter of E and one head hold as pairs."""
    count = min(config.hidden_size // config.heads, config.embedding_size // 4) // 2
    slow = count // 4
    # Evenly spaced ones cancel at every distance but 0, which makes a head's look narrow; the slow ones tell positions
    # apart that are far from each other.
    even = np.pi * np.arange(1, count - slow + 1) / max(count - slow, 1)
    return np.concatenate([even, even[:1].repeat(slow) * 0.4 ** np.arange(1, slow + 1)])


def _attention(config: AlbertConfig, positions_DxT: np.ndarray, frequencies: np.ndarray) -> dict[str, np.ndarray]:
    """The structured part [D, D] of each kernel; `positions_DxT` reads the position columns out of a hidden state."""
    D, K, T = config.hidden_size, config.hidden_size // config.heads, positions_DxT.shape[1]
    query, key = np.zeros((D, D)), np.zeros((D, D))
    for head in range(config.heads // 2):  # -1, 1, -2, 2, ...; the others stay free for what words say
        distance = (head // 2 + 1) * (1 if head % 2 else -1)
        cos, sin = (np.diag(f(frequencies * distance)) for f in (np.cos, np.sin))
        columns = slice(head * K, head * K + T)
        key[:, columns] = _SHARPNESS * positions_DxT
        # sin(a + d) = sin a cos d + cos a sin d and cos(a + d) = cos a cos d - sin a sin d, as columns
        query[:, columns] = _SHARPNESS * positions_DxT @ np.block([[cos, -sin], [sin, cos]])
    through = _THROUGH * np.eye(D)
    return {"query": query, "key": key, "value": through, "output": through}


def _orthogonal(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Orthonormal rows, or columns where there are fewer of them."""
    basis = np.linalg.qr(random.standard_normal((max(rows, columns), min(rows, columns))))[0]
    return basis.T if rows < columns else basis
