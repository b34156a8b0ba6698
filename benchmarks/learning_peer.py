"""The peer of `benchmarks.learning`: Hugging Face's AlbertForPreTraining under torch, in an environment of its own.

Started by `benchmarks.learning_run` with its orders as JSON; reads batches from standard input, needs nothing of this
package. Writes three models (at the points of the clock and at the end) and peer.json into the folder of its orders.
"""

import io
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

IGNORED = -100  # label of a position that the model's own loss leaves out


def batches() -> Iterator[dict[str, Tensor]]:
    while True:
        size = int.from_bytes(sys.stdin.buffer.read(8))
        arrays = np.load(io.BytesIO(sys.stdin.buffer.read(size)))
        read = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        # Unused slots point at position 0, [CLS], which is never predicted.
        labels = torch.full(read["input_ids"].shape, IGNORED, dtype=torch.long)
        predicted = torch.where(read["masked_weights"] > 0, read["masked_ids"], IGNORED)
        labels.scatter_(1, read["masked_positions"].long(), predicted.long())
        yield {
            "input_ids": read["input_ids"].long(),
            "token_type_ids": read["segment_ids"].long(),
            "attention_mask": read["mask"].long(),
            "labels": labels,
            "sentence_order_label": torch.where(read["order_weight"] > 0, read["order_label"], IGNORED).long(),
        }


class Run:
    def __init__(self, asked: dict, steps: int) -> None:
        torch.manual_seed(asked["seed"])
        self.model = transformers.AlbertForPreTraining(transformers.AlbertConfig(**asked["config"]))
        self.model.train()
        named = list(self.model.named_parameters())
        plain = [p for name, p in named if name.endswith("bias") or "LayerNorm" in name or "layer_norm" in name]
        decayed = [p for name, p in named if not any(p is other for other in plain)]
        groups = [{"params": decayed, "weight_decay": asked["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=asked["rate"], betas=(0.9, 0.999), eps=1e-6, fused=True)
        warmup = round(asked["warmup_share"] * steps)
        self.schedule = transformers.get_linear_schedule_with_warmup(self.optimizer, warmup, steps)
        self.bfloat16 = asked["dtype"] == "bfloat16"

    def step(self, batch: dict[str, Tensor]) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
            loss = self.model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def main() -> None:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    torch.set_num_interop_threads(1)
    folder, source = Path(asked["folder"]), batches()
    # As ours: the number of steps from a short warm-up, whose batches are then used again from the first.
    seen, found, trial = [next(source) for _ in range(2 + asked["timed"])], [], Run(asked, 1000)
    for number, batch in enumerate(seen):
        start = time.process_time()
        trial.step(batch)
        if number >= 2:
            found.append(time.process_time() - start)
    steps = max(1, round(asked["seconds"] / statistics.median(found)))
    print(f"{steps} steps", flush=True)

    run, points, curve, spent, wall = Run(asked, steps), list(asked["points"]), [], 0.0, 0.0

    def keep(share: float) -> None:
        name = f"at-{len(curve)}"
        run.model.save_pretrained(folder / name)
        curve.append({"share": share, "seconds": spent, "model": name})

    for number in range(steps):
        start, began = time.process_time(), time.perf_counter()
        loss = run.step(seen[number] if number < len(seen) else next(source))
        spent += time.process_time() - start
        wall += time.perf_counter() - began
        if number % 50 == 0:
            print(f"step {number} loss {loss:.4f}", flush=True)
        if points and spent >= points[0] * asked["seconds"]:
            keep(points.pop(0))
    keep(1.0)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    record = {"steps": steps, "cpu_seconds": spent, "wall_seconds": wall, "curve": curve, "versions": versions}
    (folder / "peer.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
