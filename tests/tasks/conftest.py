"""A tiny tokenizer, a stand-in for the embedded task's archive, and the place of real data."""

import io
import tarfile
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from minilm_lab.data import rated_sentences

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{c}" for c in "abcdefghij"),
    ".",
]


@pytest.fixture(scope="session")
def tokenizer():
    """A WordPiece tokenizer whose tokens are letters, laid out as BERT's."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture
def write_sentences(tmp_path):
    """Put rated sentences, {domain: [(rating, text), …]}, where the download of the real ones would lie."""

    def write(sentences: dict[str, list[tuple[float, str]]]) -> Path:
        def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w:gz") as archive:
            for domain, file in rated_sentences.FILES.items():
                rows = sentences.get(domain, [])
                lines = [f"{number}\t{rating}\t{text}" for number, (rating, text) in enumerate(rows, 1)]
                add(archive, f"hutto_ICWSM_2014/{file}", "\r\n".join(lines).encode())
        folder = tmp_path / "packages" / f"{rated_sentences.REQUIREMENT}-source"
        folder.mkdir(parents=True)
        with tarfile.open(folder / "vaderSentiment-3.3.2.tar.gz", "w:gz") as archive:
            add(
                archive, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue()
            )
        return tmp_path

    return write
