"""The comparisons with torch and transformers, live; `launch/test_torch.sh` runs them where both are installed."""

import dataclasses

import numpy as np
import pytest

from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.interop import hf
from albert_jax.interop.convert import by_albert_jax, by_transformers, convert, fixed_batch, grow, largest_difference
from albert_jax.interop.load import load
from albert_jax.model.config import albert
from tests.interop.hf_goldens import CASES, GOLDENS, golden, opened

pytestmark = pytest.mark.torch
TOLERANCE = 2e-5


@pytest.mark.parametrize("case", CASES)
def test_source_and_target_of_a_conversion_agree(case, tmp_path, capsys):
    difference = convert(GOLDENS / case, tmp_path / "ours")
    assert difference is not None and difference <= TOLERANCE
    assert "largest difference of transformers on the source and albert_jax on the target" in capsys.readouterr().out
    back = convert(tmp_path / "ours", tmp_path / "hf", "hf")
    assert back is not None and back <= TOLERANCE
    assert "albert_jax on the source and transformers on the target" in capsys.readouterr().out
    print(f"{case}: {max(difference, back):.1e}")


@pytest.mark.parametrize("case", CASES)
def test_a_written_directory_loads_whole_and_gives_the_goldens(case, tmp_path):
    import torch
    import transformers

    source, stored = opened(case), golden(case)
    hf.write(tmp_path, source)
    names = {head: name for name, head in hf.ARCHITECTURES.items()}
    kind = getattr(transformers, names[source.head])
    model, told = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    given = {
        "input_ids": torch.tensor(stored["input_ids"]).long(),
        "token_type_ids": torch.tensor(stored["segment_ids"]).long(),
        "attention_mask": torch.tensor(stored["mask"]).long(),
    }
    with torch.no_grad():
        out = model.eval()(**given)
    compared = 0
    for name in ("prediction_logits", "sop_logits", "logits", "start_logits", "end_logits", "last_hidden_state"):
        want = stored["hidden"][-1] if name == "last_hidden_state" else stored.get(name)
        if want is not None and name in out:
            found = out[name].numpy()
            real = stored["mask"] if found.shape[: stored["mask"].ndim] == stored["mask"].shape else ...
            np.testing.assert_allclose(found[real], want[real], rtol=0, atol=TOLERANCE)
            compared += 1
    assert compared == {"pretrain": 2, "span": 2}.get(source.head, 1)


def test_fresh_weights_of_a_wider_model(tmp_path):
    """Not a golden: drawn anew, saved by torch, compared by `convert`."""
    import torch
    import transformers

    config = albert("mini", vocab_size=200, groups=2, layers=6, heads=8)
    torch.manual_seed(1)
    fields = {**hf.to_hf(config), "num_labels": 4}
    model = transformers.AlbertForSequenceClassification(transformers.AlbertConfig(**fields))
    for tensor in model.parameters():
        torch.nn.init.normal_(tensor, std=0.2)
    model.save_pretrained(tmp_path / "hf")
    difference = convert(tmp_path / "hf", tmp_path / "ours")
    assert difference is not None and difference <= TOLERANCE


STRINGS = ['In 1,234 words, (the) "cat" sat.', "  two   spaces and Café ", "a well-known £5 – or €6", "don't"]


def test_the_written_tokenizer_gives_our_ids(corpus, tmp_path):
    import transformers

    tokenizer = Tokenizer.load(corpus / "vocab")
    source = opened("one_group")
    params, config = grow(source.params, source.config, vocab_size=tokenizer.vocab_size, max_positions=128)
    hf.write(tmp_path, dataclasses.replace(source, params=params, config=config, tokenizer=tokenizer))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id, theirs.pad_token_id) == (2, 3, 4, 0)
    for text in STRINGS:
        assert theirs(text)["input_ids"] == [2, *tokenizer.encode(text), 3], text
    pair = theirs("the cat", "a dog")
    first, second = tokenizer.encode("the cat"), tokenizer.encode("a dog")
    assert pair["input_ids"] == [2, *first, 3, *second, 3]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert load(tmp_path)[1].fingerprint == Tokenizer(tokenizer.model).fingerprint


def test_the_written_wordpiece_vocabulary_gives_our_ids(tmp_path):
    import transformers

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天", "al", "##bert", "12", ".", "5"]
    tokenizer = WordPieceTokenizer(pieces)
    source = opened("one_group")
    word = source.params["albert/embeddings/word"][: len(pieces)]
    params = source.params | {"albert/embeddings/word": word, "mlm/bias": source.params["mlm/bias"][: len(pieces)]}
    config = dataclasses.replace(source.config, vocab_size=len(pieces))
    hf.write(tmp_path, dataclasses.replace(source, params=params, config=config, tokenizer=tokenizer))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("今天 ALBERT 12.5")["input_ids"] == [2, *tokenizer.encode("今天 ALBERT 12.5"), 3]
    assert load(tmp_path)[1].encode("今天 ALBERT") == [5, 6, 7, 8]


def test_a_comparison_sees_a_difference(tmp_path):
    """A wrong head count leaves no trace in the weights; the comparison must show it."""
    source = opened("one_group")
    batch = fixed_batch(source)
    wrong = dataclasses.replace(source, config=dataclasses.replace(source.config, heads=2))
    theirs = by_transformers(GOLDENS / "one_group", source.head, batch)
    difference, where = largest_difference(theirs, by_albert_jax(wrong, batch), batch["mask"])
    assert difference > 1e-2 and where == "mlm_logits"
