"""Makes tests/goldens/hf: tiny directories as transformers and torch write them, and beside each a .npz of what torch
computes from it: hidden states of every layer, pooled output, logits, loss, and the gradients of all parameters.

    pip install torch==2.13.0 transformers==5.23.0
    python tests/goldens/make_hf.py

The weights are random and deliberately not small, so that no part of the model is near the linear range. `albert_jax`
is not imported here.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers

OUT = Path(__file__).parent / "hf"
B, S, V = 3, 10, 40
SHAPE = dict(
    vocab_size=V, embedding_size=8, hidden_size=16, num_attention_heads=4, intermediate_size=24, num_hidden_layers=3,
    max_position_embeddings=12, attn_implementation="eager",
)  # fmt: skip
LABELS = {0: "world", 1: "sport", 2: "trade"}
# Name -> (class, changes of the configuration, how the weights are stored).
CASES: dict[str, tuple[str, dict, str]] = {
    "one_group": ("AlbertForPreTraining", {}, "safetensors"),
    "groups": (
        "AlbertForPreTraining",
        dict(num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2, hidden_act="gelu"),
        "bin",
    ),
    "equal_widths": ("AlbertForMaskedLM", dict(embedding_size=16, hidden_act="relu"), "safetensors_shards"),
    "deep": ("AlbertModel", dict(num_hidden_layers=24), "bin_plain"),
    "classification": ("AlbertForSequenceClassification", dict(id2label=LABELS), "bin_shards"),
    "tagging": ("AlbertForTokenClassification", dict(num_hidden_groups=3, num_labels=5), "safetensors"),
    "span": ("AlbertForQuestionAnswering", dict(inner_group_num=2), "safetensors"),
    "choice": ("AlbertForMultipleChoice", {}, "safetensors"),
}


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    for number, (name, (kind, changes, form)) in enumerate(CASES.items()):
        random = np.random.default_rng(number)
        model = getattr(transformers, kind)(transformers.AlbertConfig(**(SHAPE | changes))).eval()
        enlarge(model, random)
        directory = OUT / name
        store(model, directory, form)
        batch = inputs(random, choices=kind == "AlbertForMultipleChoice")
        np.savez_compressed(directory / "golden.npz", **batch, **computed(model, kind, batch, random))
        print(name, sum(path.stat().st_size for path in directory.iterdir()), "bytes")


def enlarge(model: torch.nn.Module, random: np.random.Generator) -> None:
    """Weights of size 1 / sqrt(inputs), tables of size 1, biases and LayerNorm scales well away from 0 and 1."""
    for name, tensor in model.named_parameters():
        values = random.normal(size=tuple(tensor.shape))
        if name.endswith("LayerNorm.weight") or "layer_norm.weight" in name:
            values = 1 + 0.2 * values
        elif tensor.ndim == 1:
            values *= 0.2
        elif "embeddings" not in name:
            values /= np.sqrt(tensor.shape[1])
        if "embedding_hidden_mapping_in" in name and tensor.shape[0] == tensor.shape[-1] == model.config.embedding_size:
            values = np.eye(*tensor.shape) if tensor.ndim == 2 else np.zeros(tensor.shape)
        with torch.no_grad():
            tensor.copy_(torch.tensor(values))


def store(model: torch.nn.Module, directory: Path, form: str) -> None:
    if form.startswith("safetensors"):
        model.save_pretrained(directory, max_shard_size="6KB" if form.endswith("shards") else "1GB")
        return
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(directory)
    state = model.state_dict()
    if form == "bin_shards":
        names = list(state)
        files = [f"pytorch_model-{i + 1:05d}-of-00002.bin" for i in range(2)]
        halves = [names[: len(names) // 2], names[len(names) // 2 :]]
        for file, half in zip(files, halves, strict=True):
            torch.save({name: state[name].clone() for name in half}, directory / file)
        places = {name: file for file, half in zip(files, halves, strict=True) for name in half}
        index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": places}
        (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")
    else:
        torch.save(state, directory / "pytorch_model.bin", _use_new_zipfile_serialization=form == "bin")


def inputs(random: np.random.Generator, choices: bool) -> dict[str, np.ndarray]:
    """A full row, a padded one and a short one, each of two texts."""
    lead = (B, 2) if choices else (B,)
    lengths = np.broadcast_to(np.array([S, S - 3, 4])[:, None] if choices else np.array([S, S - 3, 4]), lead)
    mask = np.arange(S) < lengths[..., None]
    ids = np.where(mask, random.integers(5, V, (*lead, S)), 0)
    segments = np.where(mask, np.arange(S) > 2, 0)
    return {"input_ids": ids.astype(np.int32), "segment_ids": segments.astype(np.int32), "mask": mask}


def computed(model: torch.nn.Module, kind: str, batch: dict, random: np.random.Generator) -> dict[str, np.ndarray]:
    """What torch computes in float32, and the labels that the loss was computed for."""
    states: list[torch.Tensor] = []
    albert = getattr(model, "albert", model)
    for group in albert.encoder.albert_layer_groups:
        group.register_forward_hook(lambda module, args, out: states.append(out))
    given = {
        "input_ids": torch.tensor(batch["input_ids"]).long(),
        "token_type_ids": torch.tensor(batch["segment_ids"]).long(),
        "attention_mask": torch.tensor(batch["mask"]).long(),
    }
    labels, arguments = targets(kind, batch["mask"], random)
    pooled: list[torch.Tensor] = []
    if albert.pooler is not None:
        albert.pooler_activation.register_forward_hook(lambda module, args, out: pooled.append(out))
    out = model(**given, **{name: torch.tensor(value).long() for name, value in arguments.items()})
    found = {"hidden": torch.stack(states)}
    if pooled:
        found["pooled"] = pooled[0]
    for name in ("prediction_logits", "sop_logits", "logits", "start_logits", "end_logits"):
        if getattr(out, name, None) is not None:
            found[name] = getattr(out, name)
    if kind == "AlbertModel":  # has no loss of its own: a sum over what it returns, weighted so that nothing cancels
        weights = torch.tensor(labels["weights"])
        loss = ((out.last_hidden_state * weights).sum() + out.pooler_output.sum()) / (B * S)
    else:
        loss = out.loss
    loss.backward()
    found["loss"] = loss
    gradients = {f"gradient/{name}": p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return labels | {name: value.detach().numpy() for name, value in found.items()} | gradients


def targets(kind: str, mask: np.ndarray, random: np.random.Generator) -> tuple[dict, dict]:
    """Labels as stored, and as arguments of the model's forward pass. -100 is a position without a label."""
    masked = np.where((random.random((B, S)) < 0.4) & mask.reshape(B, -1, S)[:, 0], random.integers(0, V, (B, S)), -100)
    masked[:, 0] = random.integers(0, V, B)
    order = np.array([0, 1, 1])
    if kind == "AlbertForPreTraining":
        return {"labels": masked, "order": order}, {"labels": masked, "sentence_order_label": order}
    if kind == "AlbertForMaskedLM":
        return {"labels": masked}, {"labels": masked}
    if kind == "AlbertForTokenClassification":
        classes = np.where(mask, random.integers(0, 5, (B, S)), -100)
        return {"labels": classes}, {"labels": classes}
    if kind == "AlbertForQuestionAnswering":
        start, end = np.array([1, 3, 0]), np.array([4, 5, 2])
        return {"start": start, "end": end}, {"start_positions": start, "end_positions": end}
    if kind == "AlbertModel":
        weights = random.normal(size=(B, S, SHAPE["hidden_size"])) * mask[..., None]
        return {"weights": weights.astype(np.float32)}, {}
    return {"labels": order}, {"labels": order}


if __name__ == "__main__":
    main()
