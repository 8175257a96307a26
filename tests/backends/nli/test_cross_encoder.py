"""The NLI cross-encoder on a tiny model made here: columns in our order whatever the model's, equal pairs equal rows."""

import numpy as np
import pytest

from backends.nli.cross_encoder import CrossEncoder, columns_of
from schemas.errors import BackendError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    where = tmp_path_factory.mktemp("nli")
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *["the", "door", "is", "green", "red", "closed", "open"]]
    fast = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(where)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        id2label={0: "entailment", 1: "neutral", 2: "contradiction"},
        label2id={"entailment": 0, "neutral": 1, "contradiction": 2},
    )
    BertForSequenceClassification(config).save_pretrained(where)
    return where


@pytest.mark.engine
def test_probabilities_come_in_our_order_and_batching_changes_nothing(folder) -> None:
    pairs = [("the door is green", "the door is red"), ("open", "closed"), ("the door is green", "the door is red")]
    one = CrossEncoder(model=str(folder), batch_size=1).open()
    many = CrossEncoder(model=str(folder), batch_size=8).open()
    a, b = one.judge(pairs), many.judge(pairs)
    assert a.shape == (3, 3)
    assert np.allclose(a.sum(1), 1)
    assert np.allclose(a, b, atol=1e-6)
    assert np.allclose(a[0], a[2])
    assert one._order == [2, 1, 0], "the model's own order is entailment, neutral, contradiction"
    assert one.identity() == many.identity(), "a batch size decides nothing"


def test_a_model_with_other_labels_is_refused() -> None:
    with pytest.raises(BackendError, match="has the labels negative, positive"):
        columns_of({0: "positive", 1: "negative"}, "mood")
